//! `fulcrum pack-data`, and that the runtime reads what it writes.

use fulcrum_runtime::data::{LabelKind, Records};
use fulcrum_tests::device::Device;
use fulcrum_tests::models;
use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::running::Running;
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

/// Writes whole numbers as NumPy does, a row each.
fn save(path: &Path, rows: &[[i64; 6]]) {
    let shape = format!("({}, 6)", rows.len());
    let header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    let numbers = rows.iter().flatten();
    bytes.extend(numbers.flat_map(|number| number.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

/// Words that follow each other by a rule, and a model that takes them as int64 and answers at every place.
#[test]
fn a_language_model_is_trained_by_fulcrumd_on_packed_words() {
    let device = Device::new();
    let sentences: Vec<[i64; 7]> = (0..240)
        .map(|start| {
            let mut word = start % 12;
            std::array::from_fn(|_| {
                let next = (5 * word + 3) % 12;
                std::mem::replace(&mut word, next)
            })
        })
        .collect();
    let places = |from: usize| -> Vec<[i64; 6]> {
        let part = |words: &[i64; 7]| std::array::from_fn(|place| words[from + place]);
        sentences.iter().map(part).collect()
    };
    save(&device.path("x.npy"), &places(0));
    save(&device.path("y.npy"), &places(1));
    let folder = device.path("");
    let said = pack(&folder, "x.npy", "--labels y.npy --out words.rec").expect(0);
    assert!(
        said.contains("samples of 6 elements, 6 classes each"),
        "{said}"
    );
    let records = Records::open(&device.path("words.rec")).unwrap();
    assert_eq!(records.labels(), LabelKind::Classes(6));
    for index in 0..records.count() {
        let mut words = [0.0; 6];
        records.copy_sample(index, &mut words);
        for (word, next) in words.iter().zip(records.classes(index)) {
            assert_eq!((5 * *word as i64 + 3) % 12, next);
        }
    }
    let mut command = fulcrum();
    command.args([
        "train-step",
        "--loss",
        "cross-entropy",
        "--optimizer",
        "adam",
    ]);
    command.args(["--batch", "8", "--class-axis", "-1"]);
    command.arg(models::engine("words.onnx"));
    let step = device.path("step.onnx");
    let _ = Answer::of(command.arg("--out").arg(&step)).expect(0);
    let words = device.path("words.rec");
    let (infer, rate) = (device.path("step.infer.onnx"), Path::new("0.02"));
    let options: [(&str, &Path); 6] = [
        ("--train", &step),
        ("--infer", &infer),
        ("--data", &words),
        ("--held-out", &words),
        ("--lr", rate),
        ("--duration-s", Path::new("600")),
    ];
    let running = Running::start(device.run(&options));
    // Well below what is asked for at the end.
    let learned = |loss| loss < 0.2 * 12_f64.ln();
    running.reports(|report| report["loss"].as_f64().is_some_and(learned));
    let summary = running.end();
    assert_eq!(summary["allocations_in_loop"], 0, "{summary}");
    let loss = |name: &str| summary[name].as_f64().unwrap();
    assert!((loss("loss_first") - 12_f64.ln()).abs() < 0.5, "{summary}");
    assert!(loss("loss_last") < 0.5 * loss("loss_first"), "{summary}");
    // One class per sample is not what this step takes.
    let _ = pack(
        &folder,
        "x.npy",
        "--labels y.npy --targets values --out words.rec",
    )
    .expect(0);
    let answer = Answer::of(&mut device.run(&options));
    assert_eq!(answer.code, Some(2), "{}", answer.text());
    for part in ["words.rec", "6 values", "takes 6 classes"] {
        assert!(answer.stderr.contains(part), "{}", answer.stderr);
    }
}

/// The pictures of `tests/fixtures/pictures`, put into folders.
fn pictures(folder: &Path, files: &[(&str, &str)]) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pictures");
    for (name, to) in files {
        let to = folder.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from.join(name), to).unwrap();
    }
}

#[test]
fn pictures_are_samples_and_their_folders_classes() {
    let folder = TemporaryFolder::new();
    let of = |path: &str, files: &[(&str, &str)]| {
        let options = format!("--out {path}.rec --normalize 10,2,20,4,30,8");
        pictures(&folder.path().join(path), files);
        let said = pack(folder.path(), path, &options).expect(0);
        let records = Records::open(&folder.path().join(format!("{path}.rec"))).unwrap();
        (said, records)
    };
    // What a name ends in does not matter, nor does what begins with a dot.
    let files = [
        ("rgb.png", "dog/a.png"),
        ("rgba.png", "dog/b.jpeg"),
        ("rgb.jpg", "cat/c.jpg"),
        ("progressive.jpg", "cat/d"),
        ("gray.png", "cat/.hidden"),
    ];
    let (said, records) = of("pets", &files);
    for part in ["rgb, 24x16", "class 0: cat", "class 1: dog", "2 classes"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!((records.count(), records.elements()), (4, 3 * 16 * 24));
    for index in 0..4 {
        let mut sample = vec![0.0; 3 * 16 * 24];
        records.copy_sample(index, &mut sample);
        // A JPEG is not exact, and here has half the resolution in colour.
        let within = if records.label(index) == 1 { 0.0 } else { 16.0 };
        for (place, element) in sample.iter().enumerate() {
            let (channel, row, column) = (place / 384, place % 384 / 24, place % 24);
            let pixel = [10 * column, 15 * row, 255 - 10 * column][channel] as f32;
            let found = element * [2.0, 4.0, 8.0][channel] + [10.0, 20.0, 30.0][channel];
            assert!((found - pixel).abs() <= within, "{index} {place}: {found}");
        }
    }
    let (_, palette) = of("palette", &[("palette.png", "it/it.png")]);
    let mut sample = vec![0.0; 3 * 16 * 24];
    palette.copy_sample(0, &mut sample);
    let pixel = [sample[2], sample[2 + 384], sample[2 + 768]];
    assert_eq!(pixel, [122.5, 27.0, -3.75], "255, 128, 0 normalised");
}

#[test]
fn pictures_are_made_alike_if_asked_for() {
    let folder = TemporaryFolder::new();
    let files = [
        ("rgb.png", "p/0/a.png"),
        ("gray16.png", "p/0/b.png"),
        ("gray.jpg", "p/1/c.jpg"),
    ];
    pictures(folder.path(), &files);
    let options = "--color gray --resize 12x8 --scale 255 --classes 5 --out p.rec";
    let _ = pack(folder.path(), "p", options).expect(0);
    let records = Records::open(&folder.path().join("p.rec")).unwrap();
    assert_eq!(
        (records.count(), records.elements(), records.labels()),
        (3, 96, LabelKind::Class(5))
    );
    let ramps = (0..3).filter(|&index| {
        let mut sample = [0.0; 96];
        records.copy_sample(index, &mut sample);
        // Away from the edges halving a ramp leaves a ramp.
        let ramp = |column: usize| (20.0 * column as f32 + 5.0) / 255.0;
        (1..11).all(|column| (sample[36 + column] - ramp(column)).abs() < 0.008)
    });
    assert_eq!(ramps.count(), 2, "the two gray ones");
}

#[test]
fn a_picture_that_does_not_fit_is_named() {
    let folder = TemporaryFolder::new();
    let cut = |name: &str, to: &str| {
        pictures(folder.path(), &[(name, to)]);
        let bytes = fs::read(folder.path().join(to)).unwrap();
        fs::write(folder.path().join(to), &bytes[..bytes.len() - 20]).unwrap();
    };
    cut("rgb.png", "cut/0/a.png");
    cut("rgb.jpg", "short/0/a.jpg");
    let files = [
        ("rgb.png", "mixed/0/a.png"),
        ("gray.png", "mixed/1/b.png"),
        ("rgb.png", "flat/a.png"),
        ("rgb.png", "deep/0/more/a.png"),
        ("generate.py", "other/0/a.py"),
    ];
    pictures(folder.path(), &files);
    fs::create_dir_all(folder.path().join("empty/0")).unwrap();
    fs::create_dir_all(folder.path().join("bare")).unwrap();
    fs::write(folder.path().join("t.csv"), "1,0\n2,1\n").unwrap();
    for (source, options, parts) in [
        ("cut", "", ["cut/0/a.png", "no sound PNG"]),
        ("short", "", ["short/0/a.jpg", "no sound JPEG"]),
        ("mixed", "", ["mixed/1/b.png", "--color"]),
        ("flat", "", ["flat/a.png", "DIR/CLASS/PICTURE"]),
        ("deep", "", ["deep/0/more", "DIR/CLASS/PICTURE"]),
        ("other", "", ["other/0/a.py", "neither a PNG nor a JPEG"]),
        ("empty", "", ["empty/0", "without pictures"]),
        ("bare", "", ["bare", "no folders"]),
        (
            "mixed",
            "--color rgb --classes 1",
            ["--classes 1", "2 folders"],
        ),
        (
            "mixed",
            "--color rgb --resize 0x3",
            ["--resize", "1 to 16384"],
        ),
        ("mixed", "--targets values", ["mixed", "its folder"]),
        ("t.csv", "--color rgb", ["t.csv", "--color"]),
    ] {
        let answer = pack(folder.path(), source, &format!("--out t.rec {options}"));
        assert_eq!(answer.code, Some(2), "{source}: {}", answer.text());
        for part in parts {
            assert!(answer.stderr.contains(part), "{source}: {}", answer.stderr);
        }
        assert!(!folder.path().join("t.rec").exists(), "{source}");
    }
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let folder = TemporaryFolder::new();
    fs::write(folder.path().join("t.csv"), "1,0\n2,0.5\n").unwrap();
    fs::write(folder.path().join("a.npy"), "nothing of the kind").unwrap();
    fs::write(folder.path().join("t.txt"), "1,0").unwrap();
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
        ("missing", "--out t.rec", "missing: no such file"),
        ("t.txt", "--out t.rec", ".npz, .npy and .csv"),
    ] {
        let answer = pack(folder.path(), source, options);
        assert_eq!(answer.code, Some(2), "{options}: {}", answer.text());
        assert!(answer.stderr.contains(part), "{options}: {}", answer.stderr);
        assert!(!folder.path().join("t.rec").exists(), "{options}");
    }
}
