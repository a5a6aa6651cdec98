//! A real sshd on the loopback interface, for this user and this test alone: a free port, keys and
//! configuration in a folder of its own.

use crate::tree::TemporaryFolder;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// Where Debian has it; it wants to be started by its full path.
const SSHD: &str = "/usr/sbin/sshd";
const INSTALL: &str = "apt-get install -y --no-install-recommends openssh-server openssh-client";

/// Installs sshd where it is missing: a test that did not run must not look like one that passed.
static INSTALLED: LazyLock<()> = LazyLock::new(|| {
    let is_there = || Path::new(SSHD).exists() && Path::new("/usr/bin/ssh").exists();
    if is_there() {
        return;
    }
    let update_and_install = format!("apt-get update -qq; {INSTALL}");
    let _ = Command::new("sh")
        .args(["-c", &update_and_install])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status();
    assert!(is_there(), "no {SSHD}: run `{INSTALL}` as root");
});

/// A server that is running; ends when it is dropped.
#[derive(Debug)]
pub struct SshServer {
    folder: TemporaryFolder,
    port: u16,
    process: Option<Child>,
}

impl SshServer {
    /// Makes keys and starts the server.
    ///
    /// # Panics
    /// There is no sshd and none can be installed, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        LazyLock::force(&INSTALLED);
        let folder = TemporaryFolder::new();
        for key in ["host_key", "user_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(key))
                .status();
            assert!(made.is_ok_and(|status| status.success()), "ssh-keygen");
        }
        let public = folder.path().join("user_key.pub");
        fs::copy(public, folder.path().join("authorized_keys")).expect("the public key");
        // sshd started by root wants its empty folder; for anyone else this fails and is not needed.
        let _ = fs::create_dir_all("/run/sshd");
        let mut server = Self {
            folder,
            port: 0,
            process: None,
        };
        server.start_again();
        server
    }

    /// Starts it after [`SshServer::stop`], on the same port if there was one.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_again(&mut self) {
        // The port was free a moment ago; another process may take it in between.
        for _ in 0..5 {
            let port = match self.port {
                0 => free_port(),
                port => port,
            };
            let config = self.folder.path().join("sshd_config");
            fs::write(&config, self.config(port)).expect("its configuration");
            let mut process = Command::new(SSHD)
                .args(["-D", "-e", "-f"])
                .arg(&config)
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("sshd starts");
            let mut lines = BufReader::new(process.stderr.take().expect("its log")).lines();
            let said: Vec<String> = lines
                .by_ref()
                .map_while(Result::ok)
                .take_while(|line| !line.contains("Server listening"))
                .collect();
            if process.try_wait().expect("its state").is_none() {
                // Someone has to read the log, or sshd waits for room in the pipe.
                std::thread::spawn(move || lines.for_each(drop));
                (self.port, self.process) = (port, Some(process));
                return;
            }
            eprintln!("sshd: {said:?}");
        }
        panic!("sshd does not start");
    }

    fn config(&self, port: u16) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [
            format!("Port {port}"),
            "ListenAddress 127.0.0.1".to_owned(),
            format!("HostKey {}", path("host_key")),
            format!("AuthorizedKeysFile {}", path("authorized_keys")),
            "PidFile none".to_owned(),
            "StrictModes no".to_owned(),
            "UsePAM no".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "PermitRootLogin yes".to_owned(),
            // A fleet connects all at once.
            "MaxStartups 100\n".to_owned(),
        ]
        .join("\n")
    }

    /// Ends the server and every connection through it.
    pub fn stop(&mut self) {
        // It stands still first: a client that connects again at once must not find it.
        if let Some(server) = &self.process {
            signal("STOP", server.id());
        }
        self.cut();
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Kills the processes that serve connections: to both ends, the link is cut. Returns how many.
    pub fn cut(&self) -> usize {
        let Some(server) = self.process.as_ref().map(Child::id) else {
            return 0;
        };
        let victims = descendants_called_sshd(server);
        for victim in &victims {
            signal("KILL", *victim);
        }
        victims.len()
    }

    /// The ssh command that reaches it, to be followed by [`SshServer::HOST`].
    #[must_use]
    pub fn ssh(&self) -> String {
        let key = self.folder.path().join("user_key");
        format!(
            "ssh -F none -p {} -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile=/dev/null \
             -o StrictHostKeyChecking=no -o LogLevel=ERROR",
            self.port,
            key.display()
        )
    }

    /// The name of its host.
    pub const HOST: &'static str = "127.0.0.1";
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn signal(name: &str, process: u32) {
    let _ = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface");
    listener.local_addr().expect("its address").port()
}

/// Processes below `ancestor` whose name begins with `sshd`: not the commands that they run.
fn descendants_called_sshd(ancestor: u32) -> Vec<u32> {
    let mut processes: Vec<(u32, u32, bool)> = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let folder: PathBuf = entry.path();
        let pid = folder
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let stat = fs::read_to_string(folder.join("stat"));
        if let (Some(pid), Ok(stat)) = (pid, stat)
            // `PID (NAME) STATE PARENT …`
            && let Some((before, after)) = stat.rsplit_once(") ")
            && let Some(parent) = after.split(' ').nth(1).and_then(|word| word.parse().ok())
        {
            let is_sshd = before
                .split_once('(')
                .is_some_and(|(_, name)| name.starts_with("sshd"));
            processes.push((pid, parent, is_sshd));
        }
    }
    let mut family: Vec<u32> = vec![ancestor];
    let mut at = 0;
    while let Some(&member) = family.get(at) {
        let children = processes
            .iter()
            .filter(|(_, parent, is_sshd)| *parent == member && *is_sshd);
        family.extend(children.map(|(pid, _, _)| *pid));
        at += 1;
    }
    family.split_off(1)
}
