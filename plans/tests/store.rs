//! The two slots: a plan in use is never torn, and a plan that does not start is given up.

mod sample;

use fulcrum_plan::durable::{check_replaceable, replace_file};
use fulcrum_plan::store::{Flashed, Slot, Store, StoreError, Trial};
use fulcrum_plan::wire::{self, DecodeError, LEN_MAX};
use fulcrum_plan::{Board, PlanTable};
use std::path::PathBuf;

/// An empty folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

fn bytes_of(plan: &PlanTable, boards: &[Board]) -> Vec<u8> {
    let board = boards
        .iter()
        .find(|board| board.name == plan.board)
        .unwrap();
    wire::encode(plan, board, &mut vec![0; LEN_MAX])
        .unwrap()
        .to_vec()
}

fn two_plans() -> ([PlanTable; 2], Vec<Board>) {
    ([sample::plan(1, 30), sample::plan(2, 30)], sample::boards())
}

#[test]
fn a_flashed_plan_is_on_trial_until_it_is_confirmed() {
    let folder = Folder::new("trial");
    let (plans, boards) = two_plans();
    let store = Store::new(&folder.0);
    assert!(matches!(store.start(&boards), Err(StoreError::Empty(_))));

    let flashed = store.flash(&bytes_of(&plans[0], &boards), &boards).unwrap();
    assert_eq!(flashed, Flashed::Switched(Slot::A));
    let (plan, pointer) = store.start(&boards).unwrap();
    assert_eq!((&plan, pointer.trial), (&plans[0], Trial::Tried));
    store.confirm().unwrap();
    assert_eq!(store.pointer().unwrap().unwrap().trial, Trial::Confirmed);
}

#[test]
fn a_plan_that_never_started_well_is_given_up_for_the_one_before() {
    let folder = Folder::new("revert");
    let (plans, boards) = two_plans();
    let store = Store::new(&folder.0);
    store.flash(&bytes_of(&plans[0], &boards), &boards).unwrap();
    store.start(&boards).unwrap();
    store.confirm().unwrap();

    store.flash(&bytes_of(&plans[1], &boards), &boards).unwrap();
    assert_eq!(
        store.start(&boards).unwrap().0,
        plans[1],
        "the new plan gets its start"
    );
    // It died before it was confirmed: the next start goes back.
    let (plan, pointer) = store.start(&boards).unwrap();
    assert_eq!(plan, plans[0]);
    assert_eq!(pointer.trial, Trial::Confirmed);
    assert_eq!(store.start(&boards).unwrap().0, plans[0], "and stays there");
}

#[test]
fn flashing_the_same_plan_again_changes_nothing() {
    let folder = Folder::new("again");
    let (plans, boards) = two_plans();
    let store = Store::new(&folder.0);
    let bytes = bytes_of(&plans[0], &boards);
    store.flash(&bytes, &boards).unwrap();
    store.start(&boards).unwrap();
    store.confirm().unwrap();
    let before = store.pointer().unwrap();
    assert_eq!(
        store.flash(&bytes, &boards).unwrap(),
        Flashed::Already(Slot::A)
    );
    assert_eq!(store.pointer().unwrap(), before);
}

#[test]
fn a_bad_plan_is_refused_and_leaves_no_trace() {
    let folder = Folder::new("refused");
    let (plans, boards) = two_plans();
    let store = Store::new(&folder.0);
    let good = bytes_of(&plans[0], &boards);
    store.flash(&good, &boards).unwrap();
    let mut flipped = good.clone();
    flipped[30] ^= 1;
    let error = store.flash(&flipped, &boards).unwrap_err();
    assert!(
        matches!(error, StoreError::Plan(_, DecodeError::Checksum)),
        "{error}"
    );
    let mut names: Vec<_> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a.plan", "current"]);
    assert_eq!(store.start(&boards).unwrap().0, plans[0]);
}

#[test]
fn a_damaged_slot_falls_back_and_a_damaged_pointer_asks_for_a_flash() {
    let folder = Folder::new("damaged");
    let (plans, boards) = two_plans();
    let store = Store::new(&folder.0);
    store.flash(&bytes_of(&plans[0], &boards), &boards).unwrap();
    store.start(&boards).unwrap();
    store.confirm().unwrap();
    store.flash(&bytes_of(&plans[1], &boards), &boards).unwrap();
    std::fs::write(store.slot_path(Slot::B), b"FPLN torn").unwrap();
    assert_eq!(store.start(&boards).unwrap().0, plans[0]);

    std::fs::write(folder.0.join("current"), b"fulcrum-store 9").unwrap();
    assert!(matches!(store.start(&boards), Err(StoreError::Pointer(_))));
    store.flash(&bytes_of(&plans[1], &boards), &boards).unwrap();
    assert_eq!(store.start(&boards).unwrap().0, plans[1]);
}

#[test]
fn a_plan_flashed_while_another_starts_is_not_confirmed_by_that_start() {
    let folder = Folder::new("between");
    let (plans, boards) = two_plans();
    let store = Store::new(&folder.0);
    store.flash(&bytes_of(&plans[0], &boards), &boards).unwrap();
    store.start(&boards).unwrap();
    store.flash(&bytes_of(&plans[1], &boards), &boards).unwrap();
    store.confirm().unwrap();
    assert_eq!(store.pointer().unwrap().unwrap().trial, Trial::New);
    assert_eq!(store.start(&boards).unwrap().0, plans[1]);
}

#[test]
fn flashes_at_the_same_time_take_turns() {
    let folder = Folder::new("turns");
    let (plans, boards) = two_plans();
    let bytes = plans.each_ref().map(|plan| bytes_of(plan, &boards));
    std::thread::scope(|scope| {
        for bytes in bytes.iter().cycle().take(4) {
            let (folder, boards) = (&folder.0, &boards);
            scope.spawn(move || {
                for _ in 0..20 {
                    Store::new(folder).flash(bytes, boards).unwrap();
                }
            });
        }
    });
    let (plan, pointer) = Store::new(&folder.0).start(&boards).unwrap();
    assert!(plans.contains(&plan));
    assert!(pointer.previous, "the plan before is still there");
}

#[test]
fn a_file_that_cannot_be_replaced_stays_as_it_is() {
    let folder = Folder::new("replace");
    std::fs::create_dir_all(folder.0.join("taken")).unwrap();
    replace_file(&folder.0.join("file"), b"one").unwrap();
    replace_file(&folder.0.join("file"), b"two").unwrap();
    assert_eq!(std::fs::read(folder.0.join("file")).unwrap(), b"two");
    // The target is a folder: it stays, and nothing is left beside it.
    replace_file(&folder.0.join("taken"), b"three").unwrap_err();
    check_replaceable(&folder.0.join("taken")).unwrap_err();
    check_replaceable(&folder.0.join("missing/file")).unwrap_err();
    check_replaceable(&folder.0.join("file")).unwrap();
    check_replaceable(&folder.0.join("new")).unwrap();
    // A rename would replace a device or a socket.
    let socket = folder.0.join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    replace_file(&socket, b"four").unwrap_err();
    check_replaceable(&socket).unwrap_err();
    std::fs::remove_file(socket).unwrap();
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 2);
}
