//! `fulcrumd capture`: a captured board is a board to discovery, to the doctor and to `apply`.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_plan::PowerMode;
use fulcrum_runtime::board::{Jetson, Options, shipped};
use fulcrum_runtime::capture::capture;
use fulcrum_runtime::doctor::Report;
use fulcrum_tests::tree::{self, TemporaryFolder};
use std::fs;

#[test]
fn a_captured_board_replays() {
    for (name, jetpack) in [
        ("orin-agx", JetPack::Five),
        ("orin-agx", JetPack::Six),
        ("orin-nx-16", JetPack::Six),
        ("agx-xavier", JetPack::Five),
    ] {
        let board = shipped().iter().find(|board| board.name == name).unwrap();
        let (original, copy) = (TemporaryFolder::new(), TemporaryFolder::new());
        board_folder::create(original.path(), board, jetpack).unwrap();
        let before = tree::files(original.path());
        let captured = capture(original.path(), copy.path()).unwrap();
        assert_eq!(captured.unreadable, []);
        tree::assert_same(
            &tree::files(original.path()),
            &before,
            "capturing reads only",
        );

        let (live, replayed) = (original.path(), copy.path());
        let report = |root| {
            Report::examine(root, Options::default())
                .to_json()
                .to_string()
        };
        assert_eq!(report(live), report(replayed), "{name}");
        let mut jetson = Jetson::discover(replayed).unwrap();
        let topology = jetson.topology();
        let mode = PowerMode {
            cores: 2,
            cpu_khz: topology.cpu_khz[1],
            gpu_khz: topology.gpu_khz[1],
            emc_khz: topology.emc_khz[1],
        };
        assert!(jetson.apply(&mode).unwrap().is_exact());
    }
}

#[test]
fn a_folder_that_holds_something_is_not_overwritten() {
    let (root, to) = (TemporaryFolder::new(), TemporaryFolder::new());
    let error = capture(root.path(), to.path()).unwrap_err().to_string();
    assert!(error.contains("this is not a Jetson"), "{error}");
    assert_eq!(tree::files(to.path()).len(), 0);
    fs::write(to.path().join("mine"), "mine").unwrap();
    let error = capture(root.path(), to.path()).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(tree::files(to.path()).len(), 1);
}
