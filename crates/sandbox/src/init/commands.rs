//! Starts commands: with pipes of the node's, or on a terminal of the sandbox's own.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Command, Stdio},
};

use rustix::{
    process::{Gid, Uid},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
    thread::{CapabilitySet, CapabilitySets},
};

use super::users::User;
use crate::{
    kernel,
    profile::Profile,
    wire::{Fault, FaultKind, PtySize},
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Its process and, on a terminal, the terminal's master.
pub(super) fn start(
    argv: &[String],
    env: BTreeMap<String, String>,
    cwd: Option<&str>,
    user: &User,
    terminal: Option<PtySize>,
    given: Vec<OwnedFd>,
    profile: Profile,
) -> Result<(u32, Option<OwnedFd>), Fault> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Fault::new(FaultKind::Invalid, "a command has at least a name"));
    };
    if env.iter().any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')) {
        return Err(Fault::new(FaultKind::Invalid, "a variable's name has no =, and neither name nor value a zero byte"));
    }
    let (cwd, otherwise) = cwd.map_or((user.home.as_str(), Some("/")), |cwd| (cwd, None));
    // A descriptor that is found within `/proc/self/fd` is not a place.
    let entered = user.does(|| match (enterable(cwd), otherwise) {
        // Images of somebody else's have no home for everybody.
        (Err(error), Some(otherwise)) if error.kind() == io::ErrorKind::NotFound => enterable(otherwise),
        (entered, _) => entered,
    });
    let cwd = entered.and_then(|entered| entered).map_err(|error| Fault::of(&format!("cwd {cwd:?}"), &error))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH);
    command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name).envs(env);
    let master = standard(&mut command, terminal, given, user).map_err(|error| Fault::of("standard streams", &error))?;
    let step = become_command(user, cwd, terminal.is_some(), profile);
    kernel::before_exec(&mut command, step);
    let child = command.spawn().map_err(|error| Fault::of(&format!("{program:?}"), &error))?;
    Ok((child.id(), master))
}

/// The folder itself, opened by the user: what it is called may change meanwhile.
fn enterable(path: &str) -> io::Result<File> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    let folder = openat2(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    Ok(folder.into())
}

fn standard(command: &mut Command, terminal: Option<PtySize>, given: Vec<OwnedFd>, user: &User) -> io::Result<Option<OwnedFd>> {
    if let Some(size) = terminal {
        let (master, own) = user.does(|| pair(size))??;
        command.stdin(Stdio::from(own.try_clone()?)).stdout(Stdio::from(own.try_clone()?)).stderr(Stdio::from(own));
        return Ok(Some(master));
    }
    let streams: [OwnedFd; 3] = given.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "three are needed"))?;
    let [input, output, error] = streams;
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(error));
    Ok(None)
}

fn pair(size: PtySize) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    let own = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    tcsetwinsize(&master, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((master, own))
}

/// In the command's own process, before it is executed: a session of its own, the user's ids, and no capability but the profile's.
fn become_command(user: &User, cwd: File, on_terminal: bool, profile: Profile) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let (groups, user_id, group) = (user.gids(), Uid::from_raw(user.id), Gid::from_raw(user.group));
    let (kept, single) = (profile.command_capabilities(), user.single);
    move || {
        rustix::process::setsid()?;
        if on_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if !kept.contains(one) && rustix::thread::capability_is_in_bounding_set(one).unwrap_or(false) {
                rustix::thread::remove_capability_from_bounding_set(one)?;
            }
        }
        if !single {
            rustix::thread::set_thread_groups(&groups)?;
            rustix::thread::set_thread_res_gid(group, group, group)?;
            rustix::thread::set_thread_res_uid(user_id, user_id, user_id)?;
        }
        let held = if user_id.is_root() { kept } else { CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() })?;
        rustix::process::fchdir(cwd.as_fd())?;
        Ok(())
    }
}
