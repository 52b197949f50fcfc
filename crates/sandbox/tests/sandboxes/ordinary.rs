//! Sandboxes of an ordinary user: the program is run as one, by root, on whatever this host lets one do.

use std::{fs, os::unix::fs::chown, process::Command as Program};

use crate::boxed::PROGRAM;

/// Nobody's on any host that these tests run on.
const USER: u32 = 54_321;

/// What a command prints, and how it ended, in a sandbox of that user's. `None`: this host does not let it.
fn boxed(profile: &[&str], line: &str) -> Option<(bool, String)> {
    if !rustix::process::geteuid().is_root() {
        println!("passed over: only root can become an ordinary user");
        return None;
    }
    // Every folder on the way must be open to everybody: a home or a build folder often is not.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    chown(folder.path(), Some(USER), Some(USER)).unwrap();
    let program = folder.path().join("skep-boxed");
    fs::copy(PROGRAM, &program).unwrap();
    let data = folder.path().join("data");
    let user = USER.to_string();
    let mut command = Program::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--inh-caps=-all", "--"]).arg(&program).args(profile).arg(&data);
    let said = match command.args(["1", "/bin/sh", "-c", line]).current_dir("/").output() {
        Ok(said) => said,
        Err(error) => {
            println!("passed over: setpriv: {error}");
            return None;
        }
    };
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    for lacking in ["UserNamespace", "MountNamespace", "Overlay"] {
        if text.contains(&format!("demands the fence {lacking}")) {
            println!("passed over: an ordinary user of this host has no {lacking}: {text}");
            return None;
        }
    }
    let left = fs::read_dir(&data).into_iter().flatten().flatten().filter(|entry| entry.file_name() != "image").count();
    // What could not be started leaves its folder to who wanted it.
    assert!(left == 0 || !said.status.success(), "something of the sandbox is left: {text}");
    Some((said.status.success(), text))
}

#[test]
fn an_ordinary_user_s_workstation_works() {
    let line = "id -u; echo kept > /etc/mine && cat /etc/mine; (echo tool > /usr/bin/tool) 2>/dev/null || echo of the host; pwd; \
                echo to > /dev/null; [ -c /dev/zero ] && head -c 3 /dev/zero | wc -c; hostname; ls /proc | grep -c '^[0-9]*$'";
    let Some((ended_well, text)) = boxed(&["--workstation"], line) else { return };
    assert!(ended_well, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..6], ["0", "kept", "of the host", "/home/user", "3", "box"], "{text}");
    assert!(lines[6].parse::<u32>().unwrap() < 8, "{text}");
    assert!(!fs::exists("/usr/bin/tool").unwrap());
}

#[test]
fn an_ordinary_user_s_sandbox_is_shut_all_the_same() {
    let line = "cat /proc/kcore 2>/dev/null | head -c 1; for d in /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do (echo x > $d) 2>/dev/null && echo open $d; done; \
                unshare -U true 2>/dev/null && echo open users; umount /proc/kcore 2>/dev/null && echo open mounts; mount -t tmpfs x /mnt 2>/dev/null && echo open mount; \
                ls /root/.ssh /var/lib/dpkg 2>/dev/null; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr -d '\\t'; (exec 3<>/dev/tcp/127.0.0.1/22) 2>/dev/null && echo open port; \
                rm -f /dev/null 2>/dev/null && echo open device; echo end";
    let Some((ended_well, text)) = boxed(&["--workstation"], line) else { return };
    assert!(ended_well && !text.contains("open "), "{text}");
    assert!(text.starts_with("NoNewPrivs:1\nSeccomp:2\nend\n"), "{text}");
}

#[test]
fn strict_is_refused_to_ordinary_users_and_says_what_is_missing() {
    let Some((ended_well, text)) = boxed(&[], "id") else { return };
    assert!(!ended_well && text.contains("demands the fence") && text.contains("run as root"), "{text}");
}
