//! `fulcrum report`: the page a plan becomes.

use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::scratch::Scratch;
use std::path::{Path, PathBuf};

fn scratch(name: &str) -> Scratch {
    Scratch::new(env!("CARGO_TARGET_TMPDIR"), &format!("report_{name}"))
}

/// Plans on a simulated board; returns plan and journal.
fn planned(folder: &Scratch, name: &str, workloads: &str) -> (PathBuf, PathBuf) {
    let plan = folder.path(&format!("{name}.plan"));
    let journal = folder.path(&format!("{name}.journal"));
    let mut command = fulcrum();
    command
        .args(["plan", "--board", "orin-agx", "--profiles"])
        .args(["synthetic:orin-agx", "--seed", "3", "--strategy", "rnd:90"])
        .args(workloads.split_whitespace())
        .arg("--journal")
        .arg(&journal)
        .arg("--out")
        .arg(&plan);
    let _ = Answer::of(&mut command).expect(0);
    (plan, journal)
}

fn report(plans: &[&Path], journals: &[&Path], out: &Path) -> Answer {
    let mut command = fulcrum();
    command.arg("report").args(plans).arg("--out").arg(out);
    for journal in journals {
        command.arg("--journal").arg(journal);
    }
    Answer::of(&mut command)
}

#[test]
fn i8_the_same_plan_and_journal_give_the_same_page() {
    let folder = scratch("twice");
    let (plan, journal) = planned(&folder, "x", "--train lstm --infer mobilenetv3");
    let page = |name: &str| {
        let out = folder.path(name);
        let _ = report(&[&plan], &[&journal], &out).expect(0);
        std::fs::read_to_string(out).unwrap()
    };
    let first = page("a.html");
    assert_eq!(first, page("b.html"));
    assert!(first.starts_with("<!doctype html>"));
}

#[test]
fn a_journal_of_another_plan_is_refused_and_nothing_is_written() {
    let folder = scratch("other");
    let (plan, _) = planned(&folder, "x", "--train lstm --infer mobilenetv3");
    let (_, other) = planned(&folder, "y", "--train lstm");
    let out = folder.path("x.html");
    let answer = report(&[&plan], &[&other], &out);
    assert_eq!(answer.code, Some(2), "{}", answer.text());
    for part in [
        "y.journal",
        "for x.plan: ",
        "workloads",
        "infer/mobilenetv3",
    ] {
        assert!(answer.stderr.contains(part), "{part}: {}", answer.stderr);
    }
    assert!(!out.exists());
}
