//! The house stays as it is described: sizes, arrows between rooms, no cycles, a test per invariant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a file, its tests left out.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Files with an extension below a folder, build output and hidden folders left out; sorted.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|ext| extensions.iter().any(|e| ext == *e))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn source(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("\n#[cfg(test)]\nmod ")
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn no_file_is_longer_than_600_lines_without_its_tests() {
    let mut longest = (0, PathBuf::new());
    let is_test = |path: &Path| {
        path.ends_with("tests.rs")
            || path
                .parent()
                .is_some_and(|folder| folder.ends_with("tests"))
    };
    for path in files(&root(), &["rs", "py"]) {
        if is_test(&path) {
            continue;
        }
        let lines = source(&path).lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
        longest = longest.max((lines, path));
    }
    println!("longest: {} lines, {}", longest.0, longest.1.display());
}

/// Module of a source file: `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`, `src/lib.rs` is empty.
fn module_of(src: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(src).unwrap().with_extension("");
    let parts: Vec<_> = relative
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let parts = match parts.last().map(String::as_str) {
        Some("mod" | "lib") => &parts[..parts.len() - 1],
        _ => &parts[..],
    };
    parts.join("::")
}

/// The paths of a file's `use crate::…` and `use super::…`, as modules counted from the crate's root.
fn imports(module: &str, is_folder: bool, text: &str) -> Vec<String> {
    let parent = |module: &str| module.rsplit_once("::").map_or("", |(up, _)| up).to_owned();
    let mut found = Vec::new();
    for statement in text.split("use ").skip(1) {
        let statement: String = statement
            .split(';')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let (base, rest) = if let Some(rest) = statement.strip_prefix("crate::") {
            (String::new(), rest)
        } else if let Some(rest) = statement.strip_prefix("super::") {
            (parent(module), rest)
        } else if let Some(rest) = statement.strip_prefix("self::") {
            (
                if is_folder {
                    module.to_owned()
                } else {
                    parent(module)
                },
                rest,
            )
        } else {
            continue;
        };
        let stem = rest.split('{').next().unwrap().trim_end_matches("::");
        let names = rest
            .split_once('{')
            .map_or("", |(_, names)| names.trim_end_matches('}'));
        // One level of braces is enough to tell modules apart.
        for name in names.split(',') {
            let path = [base.as_str(), stem, name.split("::").next().unwrap()];
            let path: Vec<&str> = path.into_iter().filter(|part| !part.is_empty()).collect();
            found.push(path.join("::"));
        }
    }
    found
}

#[test]
fn no_module_imports_itself_in_a_circle() {
    for name in ["plans", "planner", "runtime", "training", "tools"] {
        let src = root().join(name).join("src");
        let paths = files(&src, &["rs"]);
        let modules: BTreeSet<String> = paths.iter().map(|path| module_of(&src, path)).collect();
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for path in &paths {
            let module = module_of(&src, path);
            let is_folder = path.ends_with("mod.rs");
            for import in imports(&module, is_folder, &source(path)) {
                // The longest prefix that is a module; what is left names an item.
                let mut target = import.as_str();
                while !modules.contains(target) {
                    target = target.rsplit_once("::").map_or("", |(up, _)| up);
                }
                // A folder's module may use its own children, which is what it is for.
                let own_child = target.starts_with(&format!("{module}::"));
                if target != module && !target.is_empty() && !own_child {
                    arrows
                        .entry(module.clone())
                        .or_default()
                        .insert(target.to_owned());
                }
            }
        }
        if let Some(circle) = circle(&arrows) {
            panic!("{name}: {}", circle.join(" -> "));
        }
    }
}

/// A circle of arrows, if there is one: modules without arrows are taken away until none are left.
fn circle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut left = arrows.clone();
    loop {
        let sources: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, targets| {
            targets.retain(|target| sources.contains(target));
            !targets.is_empty()
        });
        if left.len() == before {
            break;
        }
    }
    let mut walk = vec![left.keys().next()?.clone()];
    loop {
        let next = left[walk.last().unwrap()].iter().next().unwrap().clone();
        if let Some(at) = walk.iter().position(|seen| *seen == next) {
            walk.push(next);
            return Some(walk.split_off(at));
        }
        walk.push(next);
    }
}

#[test]
fn a_circle_is_found() {
    let arrows = |pairs: &[(&str, &str)]| {
        let mut map: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            map.entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        map
    };
    assert_eq!(circle(&arrows(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = circle(&arrows(&[("x", "a"), ("a", "b"), ("b", "c"), ("c", "a")])).unwrap();
    assert_eq!(found, ["a", "b", "c", "a"]);
    let text = "use crate::a::{b, c::D};\nuse super::e;\nuse std::fmt;";
    assert_eq!(imports("m::n", false, text), ["a::b", "a::c", "m::e"]);
}

#[test]
fn the_arrows_between_the_rooms_point_one_way() {
    let ours = |name: &str| -> BTreeSet<String> {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let manifest = manifest
            .split("[dependencies]")
            .nth(1)
            .unwrap_or("")
            .to_owned();
        let dependencies = manifest.split("\n[").next().unwrap();
        dependencies
            .lines()
            .filter(|line| line.starts_with("fulcrum"))
            .map(|line| line.split(['.', ' ']).next().unwrap().to_owned())
            .collect()
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(ours("plans"), set(&[]));
    assert_eq!(ours("planner"), set(&["fulcrum-plan"]));
    assert_eq!(ours("runtime"), set(&["fulcrum-plan"]));
    assert_eq!(ours("training"), set(&[]));
    assert_eq!(
        ours("tools"),
        set(&["fulcrum-plan", "fulcrum-planner", "fulcrum-training"])
    );
}

#[test]
fn every_invariant_has_a_test_of_its_name() {
    let architecture = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let tests: String = files(&root(), &["rs"])
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for number in 1..=9 {
        assert!(
            architecture.contains(&format!("**I{number}**")),
            "docs: I{number} is missing"
        );
        assert!(
            tests.contains(&format!("fn i{number}_")),
            "no test is named i{number}_…"
        );
    }
}

#[test]
fn nothing_names_a_registry_host_or_a_path_of_one_machine() {
    // Written in two parts, so that this file does not name them either.
    let hosts = [
        ("crates", ".io"),
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("npmjs", ".org"),
    ];
    let paths = [("/wo", "rk/"), ("/ro", "ot/")];
    let extensions = ["rs", "toml", "md", "py", "sh", "yml", "run", "service"];
    let mut all = files(&root(), &extensions);
    all.push(root().join(".ci/run"));
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        for (first, second) in hosts.iter().chain(&paths) {
            let name = format!("{first}{second}");
            assert!(!text.contains(&name), "{} names {name}", path.display());
        }
    }
}
