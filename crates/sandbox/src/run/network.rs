//! The devices of the sandbox's network namespace: loopback, and the one whose other end the node has.
//!
//! Runs in the namespace, before the host's privileges are given up: nobody within can change what is made here. Speaks netlink, a few messages of it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice::name_to_index, recv, send, socket_with},
};

use crate::{kernel, spec::Pair};

/// What the device is called within.
const NAME: &std::ffi::CStr = c"tun0";

const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
const CREATE: u16 = 0x400;

const UP: u32 = 1;
/// The addresses' networks hold the sandbox, the gateway, and nobody else.
const BITS_LEFT: u8 = 2;

/// The loopback device, which is there but down, comes up; with it 127.0.0.1 and ::1.
pub(super) fn loopback_up() -> io::Result<()> {
    Netlink::open()?.set_up(1, None)
}

/// A device with its addresses and the way to everywhere. Where the kernel has no IPv6 it has none.
pub(super) fn tun(address: Pair, gateway: Pair, mtu: u32) -> io::Result<OwnedFd> {
    let device = open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    kernel::tun(&device, NAME)?;
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let index = name_to_index(&any, "tun0")?;
    let netlink = Netlink::open()?;
    netlink.set_up(index, Some(mtu))?;
    netlink.connect(index, address.v4.into(), gateway.v4.into())?;
    match netlink.connect(index, address.v6.into(), gateway.v6.into()) {
        Err(error) if without_six(&error) => {}
        other => other?,
    }
    Ok(device)
}

fn without_six(error: &io::Error) -> bool {
    let missing = [Errno::OPNOTSUPP, Errno::AFNOSUPPORT, Errno::ACCESS, Errno::PERM];
    error.raw_os_error().is_some_and(|code| missing.contains(&Errno::from_raw_os_error(code)))
}

/// Says where names are resolved. What an image has there, a link for instance, is replaced and never written through. A sandbox whose own root
/// has made something else of `/etc` starts all the same.
pub(super) fn resolver(at: Pair) {
    let text = format!("nameserver {}\noptions timeout:3 attempts:2\n", at.v4);
    let written = || -> io::Result<()> {
        fs::create_dir_all("/etc")?;
        let _ = fs::remove_file("/etc/resolv.conf");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open("/etc/resolv.conf")?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())
    };
    let _ = written();
}

struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> io::Result<Self> {
        // Protocol 0 of netlink is that of devices, addresses and routes.
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    fn set_up(&self, device: u32, mtu: Option<u32>) -> io::Result<()> {
        // Family, padding and type of the device: any. Then which, its flags, and which of them are meant.
        let mut link = vec![0; 4];
        link.extend(device.to_ne_bytes());
        link.extend(UP.to_ne_bytes());
        link.extend(UP.to_ne_bytes());
        if let Some(mtu) = mtu {
            attribute(&mut link, 4, &mtu.to_ne_bytes());
        }
        self.say(NEW_LINK, 0, &link)
    }

    /// One family: the device's address, and everything by way of the gateway.
    fn connect(&self, device: u32, address: IpAddr, gateway: IpAddr) -> io::Result<()> {
        const LOCAL: u16 = 2;
        const NO_DUPLICATES_SOUGHT: u8 = 2;
        let (family, bits) = match address {
            IpAddr::V4(_) => (libc::AF_INET, 32),
            IpAddr::V6(_) => (libc::AF_INET6, 128),
        };
        let family = u8::try_from(family).map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = if address.is_ipv6() { NO_DUPLICATES_SOUGHT } else { 0 };
        let mut new = vec![family, bits - BITS_LEFT, flags, 0];
        new.extend(device.to_ne_bytes());
        attribute(&mut new, LOCAL, &octets(address));
        attribute(&mut new, 1, &octets(address));
        self.say(NEW_ADDRESS, CREATE, &new)?;
        // Everywhere; the main table, made at boot, of the whole universe, of the kind that leads on.
        let mut route = vec![family, 0, 0, 0, 254, 3, 0, 1];
        route.extend(0u32.to_ne_bytes());
        attribute(&mut route, 5, &octets(gateway));
        attribute(&mut route, 4, &device.to_ne_bytes());
        self.say(NEW_ROUTE, CREATE, &route)
    }

    /// Sends one message, behind its header (length, type, flags, sequence, port), and waits for the answer.
    fn say(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(16 + body.len());
        let length = u32::try_from(16 + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST_AND_ACKNOWLEDGE | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(&self.0, &message, SendFlags::empty())?;
        let mut answer = [0; 1024];
        let (got, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        acknowledged(&answer[..got])
    }
}

/// Length, type, content; what follows is at a multiple of four.
fn attribute(message: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(content);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is no acknowledgement")),
    }
}
