//! `fulcrum pack-data`, and that the runtime reads what it writes.

use fulcrum_runtime::data::{LabelKind, Records};
use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::tree::TemporaryFolder;
use std::fs;
use std::path::Path;

fn pack(folder: &Path, source: &str, options: &str) -> Answer {
    let mut command = fulcrum();
    command.current_dir(folder).arg("pack-data").arg(source);
    Answer::of(command.args(options.split_whitespace()))
}

#[test]
fn a_table_is_split_normalised_and_read_back() {
    let folder = TemporaryFolder::new();
    let rows: Vec<String> = (0..50)
        .map(|i| format!("{i},{},{}", 3 * i, i % 5))
        .collect();
    fs::write(
        folder.path().join("t.csv"),
        format!("a,b,class\n{}\n", rows.join("\n")),
    )
    .unwrap();
    let options = "--normalize computed --channels 2 --seed 9 --out t.rec --held-out h.rec";
    let said = pack(folder.path(), "t.csv", options).expect(0);
    for part in [
        "5 classes",
        "channel 1: mean",
        "seed 9",
        "40 samples",
        "10 samples",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let open = |name: &str| Records::open(&folder.path().join(name)).unwrap();
    let (train, held_out) = (open("t.rec"), open("h.rec"));
    assert_eq!((train.count(), held_out.count()), (40, 10));
    let mut sum = [0.0; 2];
    for (records, count) in [(&train, 40), (&held_out, 10)] {
        assert_eq!(
            (records.elements(), records.labels()),
            (2, LabelKind::Class(5))
        );
        for index in 0..count {
            let mut sample = [0.0; 2];
            records.copy_sample(index, &mut sample);
            // Both columns are the same but for a factor.
            assert!((sample[0] - sample[1]).abs() < 1e-5, "{sample:?}");
            if count == 40 {
                sum[0] += sample[0];
                sum[1] += sample[0] * sample[0];
            }
        }
    }
    assert!(
        sum[0].abs() < 1e-3 && (sum[1] - 40.0).abs() < 1e-2,
        "{sum:?}"
    );
    let again = fs::read(folder.path().join("t.rec")).unwrap();
    let _ = pack(folder.path(), "t.csv", options).expect(0);
    assert_eq!(fs::read(folder.path().join("t.rec")).unwrap(), again);
}

#[test]
fn values_are_labels_too() {
    let folder = TemporaryFolder::new();
    fs::write(folder.path().join("t.csv"), "1,0.25\n2,-0.5\n").unwrap();
    let _ = pack(folder.path(), "t.csv", "--targets values --out t.rec").expect(0);
    let records = Records::open(&folder.path().join("t.rec")).unwrap();
    assert_eq!(records.labels(), LabelKind::Values(1));
    let mut labels: Vec<f32> = (0..2).flat_map(|index| records.values(index)).collect();
    labels.sort_by(f32::total_cmp);
    assert_eq!(labels, [-0.5, 0.25]);
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let folder = TemporaryFolder::new();
    fs::write(folder.path().join("t.csv"), "1,0\n2,0.5\n").unwrap();
    fs::write(folder.path().join("a.npy"), "nothing of the kind").unwrap();
    for (source, options, part) in [
        ("t.csv", "--out t.rec", "sample 1 has label 0.5"),
        (
            "t.csv",
            "--out t.rec --targets values --channels 2",
            "--channels 2",
        ),
        ("t.csv", "--out t.rec --label-column 5", "--label-column 5"),
        (
            "t.csv",
            "--out t.rec --held-out h.rec --share 1.5",
            "--share 1.5",
        ),
        ("t.csv", "--out t.rec --normalize 1,0", "deviations above 0"),
        ("a.npy", "--out t.rec", "--labels"),
        ("a.npy", "--out t.rec --labels a.npy", "not a NumPy array"),
        ("missing.npz", "--out t.rec", "missing.npz"),
        ("t.txt", "--out t.rec", ".npz, .npy and .csv"),
    ] {
        let answer = pack(folder.path(), source, options);
        assert_eq!(answer.code, Some(2), "{options}: {}", answer.text());
        assert!(answer.stderr.contains(part), "{options}: {}", answer.stderr);
        assert!(!folder.path().join("t.rec").exists(), "{options}");
    }
}
