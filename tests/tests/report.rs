//! `fulcrum report`: the page a plan becomes.

use fulcrum_tests::chromium::Chromium;
use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::tree::TemporaryFolder;
use std::path::{Path, PathBuf};

/// Plans on a simulated board; returns plan and journal.
fn planned(folder: &TemporaryFolder, name: &str, workloads: &str) -> (PathBuf, PathBuf) {
    let plan = folder.path().join(format!("{name}.plan"));
    let journal = folder.path().join(format!("{name}.journal"));
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
    let folder = TemporaryFolder::new();
    let (plan, journal) = planned(&folder, "x", "--train lstm --infer mobilenetv3");
    let page = |name: &str| {
        let out = folder.path().join(name);
        let _ = report(&[&plan], &[&journal], &out).expect(0);
        std::fs::read_to_string(out).unwrap()
    };
    let first = page("a.html");
    assert_eq!(first, page("b.html"));
    assert!(first.starts_with("<!doctype html>"));
}

#[test]
fn a_journal_of_another_plan_is_refused_and_nothing_is_written() {
    let folder = TemporaryFolder::new();
    let (plan, _) = planned(&folder, "x", "--train lstm --infer mobilenetv3");
    let (_, other) = planned(&folder, "y", "--train lstm");
    let out = folder.path().join("x.html");
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

#[test]
fn a_file_name_is_text_whatever_it_holds() {
    let folder = TemporaryFolder::new();
    let (plan, _) = planned(&folder, "<img src=x onerror=alert(1)>&", "--train lstm");
    let out = folder.path().join("x.html");
    let _ = report(&[&plan], &[], &out).expect(0);
    let page = std::fs::read_to_string(out).unwrap();
    assert!(!page.contains("<img"));
    assert!(page.contains("<dd>&lt;img src=x onerror=alert(1)&gt;&amp;.plan</dd>"));
}

/// A page of training and inference, one of two inferences, and both on one.
fn pages(folder: &TemporaryFolder) -> Vec<(&'static str, String)> {
    let (plan, journal) = planned(folder, "x", "--train lstm --infer mobilenetv3");
    let (two, _) = planned(folder, "two", "--infer mobilenetv3 --infer resnet50");
    let page = |plans: &[&Path], journals: &[&Path]| {
        let out = folder.path().join("page.html");
        let _ = report(plans, journals, &out).expect(0);
        std::fs::read_to_string(out).unwrap()
    };
    vec![
        ("training and inference", page(&[&plan], &[&journal])),
        ("two inferences", page(&[&two], &[])),
        ("two plans", page(&[&two, &plan], &[&journal])),
    ]
}

#[test]
fn the_page_reads_well_on_a_phone_and_a_desktop_in_light_and_dark_and_fetches_nothing() {
    let Some(chromium) = Chromium::find() else {
        return;
    };
    let folder = TemporaryFolder::new();
    for (what, page) in pages(&folder) {
        for (width_px, is_dark) in [(390, false), (390, true), (1280, false), (320, false)] {
            let when = format!("{what}, {width_px} px, dark: {is_dark}");
            let seen = chromium.measure(folder.path(), &page, width_px, is_dark);
            assert_eq!(seen.is_dark(), Some(is_dark), "{when}");
            assert_eq!(seen.complaints, [""; 0], "{when}");
            assert_eq!(seen.requests, [""; 0], "{when}");
            assert_eq!(
                seen.overflow_px(),
                Some(0),
                "{when}: {:?}",
                seen.list("outside")
            );
            for flaw in ["outside", "overlapping", "faint"] {
                assert_eq!(seen.list(flaw), [""; 0], "{when}: {flaw}");
            }
            if width_px >= 390 {
                assert_eq!(seen.list("scrolling"), [""; 0], "{when}");
                assert_eq!(seen.list("small"), [""; 0], "{when}");
            }
        }
    }
}

#[test]
fn the_browser_sees_every_flaw_it_is_asked_for() {
    let Some(chromium) = Chromium::find() else {
        return;
    };
    let folder = TemporaryFolder::new();
    let page = "<!doctype html><body style='margin:0'>\
        <div style='width:600px'>wide</div>\
        <p style='color:#ccc;background:#fff'>pale</p>\
        <div class=scroll style='overflow:auto' aria-label=table><table style='width:800px'><tr><td>cell</table></div>\
        <figure><svg role=img id=c viewBox='0 0 800 100' width=300>\
        <text x=10 y=20 font-size=12>one</text><text x=12 y=20 font-size=12>two</text></svg></figure>\
        <img src='http://localhost:9/image.png'><script>console.error('broken')</script>";
    let seen = chromium.measure(folder.path(), page, 390, false);
    assert_eq!(seen.overflow_px(), Some(210));
    assert!(
        seen.complaints.iter().any(|line| line.contains("broken")),
        "{seen:?}"
    );
    assert_eq!(seen.requests, ["http://localhost:9/image.png"]);
    for (flaw, sign) in [
        ("outside", "wide"),
        ("faint", "pale"),
        ("scrolling", "table: 410 px"),
        ("overlapping", "two"),
        ("small", "one"),
    ] {
        let list = seen.list(flaw);
        assert!(
            list.iter().any(|found| found.contains(sign)),
            "{flaw}: {list:?}"
        );
    }
}

#[test]
fn the_page_says_what_the_command_line_says() {
    let folder = TemporaryFolder::new();
    let (plan, journal) = planned(&folder, "x", "--train lstm --infer mobilenetv3");
    let out = folder.path().join("x.html");
    let _ = report(&[&plan], &[&journal], &out).expect(0);
    let page = std::fs::read_to_string(out).unwrap();
    for text in [
        "lstm + mobilenetv3 on Jetson AGX Orin",
        "rnd:90, seed 3",
        "Nothing is interpolated",
        "Training lstm: throughput against power",
        "<figcaption>batch 64</figcaption>",
        "Serving mobilenetv3 with lstm in the gaps",
        "Profiles in the order they were paid",
        "All 90 profiles",
        "Mean absolute error of the prediction",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // A row of the table is what `fulcrum select` answers.
    let answer = Answer::of(
        fulcrum()
            .arg("select")
            .arg(&plan)
            .args(["--power", "30", "--json"]),
    );
    let json: serde_json::Value = serde_json::from_str(&answer.expect(0)).unwrap();
    let solution = &json["solution"];
    let watts = solution["power_mw"].as_f64().unwrap() / 1e3;
    let row = page.split("<tr>").find(|row| {
        row.contains("<th scope=\"row\" class=\"number\">30</th>")
            && row.matches("<td").count() == 8
    });
    let row = row.expect("a row for 30 W");
    assert!(row.contains(&format!(">{watts:.1}<")), "{solution}: {row}");
}
