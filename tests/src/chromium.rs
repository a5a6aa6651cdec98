//! A page in a headless Chromium: what it fetches, what it complains about, and what a reader would
//! stumble over.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a machine gets one.
const INSTALL: &str = "apt-get install -y --no-install-recommends chromium";

/// Names of the program.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Everything that a fresh browser does unasked is off, and no host has an address.
const QUIET: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
];

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout == b"0\n")
}

/// Installs Debian's package; the error is what went wrong.
fn install() -> Result<(), String> {
    let run = |command: &str| {
        let mut words = command.split(' ');
        let output = Command::new(words.next().unwrap_or_default())
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(format!("{command}: {error}")),
        }
    };
    // A machine with fresh lists needs no update.
    run(INSTALL).or_else(|_| run("apt-get update").and_then(|()| run(INSTALL)))
}

/// A browser.
#[derive(Clone, Debug)]
pub struct Chromium(PathBuf);

impl Chromium {
    /// The machine's Chromium; root installs it where there is none. Without one the caller has to
    /// return: it is told so on the terminal, and where `CI` is set it is a failure.
    ///
    /// # Panics
    /// There is none, and `CI` is set.
    #[must_use]
    pub fn find() -> Option<Self> {
        // Tests run in parallel, and apt-get does not.
        static FOUND: std::sync::LazyLock<Result<PathBuf, String>> =
            std::sync::LazyLock::new(|| {
                if installed().is_none() && is_root() {
                    install()?;
                }
                installed().ok_or_else(|| "not root".to_owned())
            });
        match &*FOUND {
            Ok(path) => Some(Self(path.clone())),
            Err(why) => {
                let missing = format!("no Chromium ({why}); as root: {INSTALL}");
                assert!(std::env::var_os("CI").is_none(), "{missing}");
                eprintln!("SKIPPED: {missing}");
                None
            }
        }
    }

    fn start(&self, folder: &Path, is_dark: bool) -> Command {
        let profile = folder.join("profile");
        let _ = std::fs::remove_dir_all(&profile);
        let mut command = Command::new(&self.0);
        command
            .args(QUIET)
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!(
                "--blink-settings=preferredColorScheme={}",
                u8::from(!is_dark)
            ))
            .stdin(Stdio::null());
        command
    }

    /// Loads a page in a frame of a width and measures it.
    ///
    /// # Panics
    /// The browser does not start, or its answer cannot be read.
    #[must_use]
    pub fn measure(&self, folder: &Path, page: &str, width_px: u32, is_dark: bool) -> Measured {
        let quoted = page.replace('&', "&amp;").replace('"', "&quot;");
        let harness = include_str!("../fixtures/browser/measure.html")
            .replace("@WIDTH@", &width_px.to_string())
            .replace("@PAGE@", &quoted);
        let harness_path = folder.join("harness.html");
        std::fs::write(&harness_path, harness).expect("the harness can be written");
        let log = folder.join("net.json");
        let output = self
            .start(folder, is_dark)
            .arg(format!("--log-net-log={}", log.display()))
            .arg("--dump-dom")
            .arg(format!("file://{}", harness_path.display()))
            .output()
            .expect("Chromium starts");
        let dom = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let found = between(&dom, "<pre id=\"found\">", "</pre>").unwrap_or_default();
        let found = found
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        Measured {
            found: serde_json::from_str(&found)
                .unwrap_or_else(|error| panic!("{error}: {found}\n{stderr}")),
            complaints: stderr
                .lines()
                .filter(|line| line.contains(":CONSOLE"))
                .map(str::to_owned)
                .collect(),
            requests: requests(&log),
        }
    }
}

/// What was seen of a page.
#[derive(Clone, Debug)]
pub struct Measured {
    found: Value,
    /// What the page wrote to the console, or the browser about the page.
    pub complaints: Vec<String>,
    /// Addresses that the page fetched.
    pub requests: Vec<String>,
}

impl Measured {
    /// A list of `fixtures/browser/measure.html`.
    ///
    /// # Panics
    /// There is none of that name.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<&str> {
        let list = self.found[name].as_array();
        let list = list.unwrap_or_else(|| panic!("no {name}: {}", self.found));
        list.iter().filter_map(Value::as_str).collect()
    }

    /// How far the page is wider than its screen.
    #[must_use]
    pub fn overflow_px(&self) -> Option<i64> {
        self.found["overflow_px"].as_i64()
    }

    /// Whether the page saw a dark screen.
    #[must_use]
    pub fn is_dark(&self) -> Option<bool> {
        self.found["dark"].as_bool()
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

/// Addresses in a browser's log of its network, those that it asked for on its own left out.
fn requests(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("Chromium logs its network");
    let log: Value = serde_json::from_str(&text).expect("a network log in JSON");
    let start = &log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"];
    assert!(start.is_u64(), "another format of network log");
    let events = log["events"].as_array().expect("events");
    events
        .iter()
        .filter(|event| event["type"] == *start && event["params"]["initiator"] != "not an origin")
        .filter_map(|event| Some(event["params"]["url"].as_str()?.to_owned()))
        .collect()
}
