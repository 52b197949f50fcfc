//! The `/etc` of a sandbox whose programs are the host's: what programs look for, and nothing of the host's own. Pure.

/// A file of `/etc`: path below it, content, permission bits.
pub(crate) type Written = (&'static str, String, u32);

/// The ordinary user of every sandbox.
pub(crate) const USER: (&str, u32) = ("user", 1_000);

/// What does not depend on the host.
pub(crate) fn files() -> Vec<Written> {
    let (user, id) = USER;
    let text = |text: &str| text.to_owned();
    vec![
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/bash\n{user}:x:{id}:{id}:{user}:/home/{user}:/bin/bash\n\
                 _apt:x:42:65534::/nonexistent:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
            0o644,
        ),
        (
            "group",
            format!("root:x:0:\nadm:x:4:\ntty:x:5:\nmail:x:8:\nshadow:x:42:\nstaff:x:50:\n{user}:x:{id}:\nnogroup:x:65534:\n"),
            0o644,
        ),
        ("shadow", format!("root:*:19000:0:99999:7:::\n{user}:*:19000:0:99999:7:::\n"), 0o640),
        ("hosts", text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"), 0o644),
        ("resolv.conf", text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644),
        ("nsswitch.conf", text("passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"), 0o644),
        ("host.conf", text("multi on\n"), 0o644),
        ("shells", text("/bin/sh\n/bin/bash\n"), 0o644),
        ("environment", String::new(), 0o644),
        ("mtab", String::new(), 0o644),
        ("profile", text("export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\numask 022\n"), 0o644),
        ("bash.bashrc", text("[ -z \"$PS1\" ] || PS1='\\u@\\h:\\w\\$ '\n"), 0o644),
    ]
}

/// Files that belong to the host's programs and tell nothing about the host: libraries' places, names of ports, certificates of the Internet.
pub(crate) const TAKEN: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl/certs/ca-certificates.crt",
    "ssl/openssl.cnf",
    "pki/tls/certs/ca-bundle.crt",
    "services",
    "protocols",
    "mime.types",
    "debian_version",
    "os-release",
    "alternatives",
    "terminfo",
    "magic",
    "inputrc",
    "login.defs",
    "apt/sources.list.d/debian.sources",
    "dpkg",
];

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_of_the_host_s_users_is_taken() {
        for secret in ["passwd", "shadow", "group", "hosts", "hostname", "machine-id", "ssh", "ssl/private", "sudoers", "resolv.conf"] {
            assert!(!super::TAKEN.contains(&secret), "{secret}");
        }
        assert!(super::files().iter().any(|(name, text, _)| *name == "passwd" && text.contains("user:x:1000:1000:")));
    }
}
