//! The devices of the sandbox's network namespace.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const NEW_LINK: u16 = 16;
const ERROR: u16 = 2;
const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
const UP: u32 = 1;

/// The loopback device, which is there but down, comes up; with it 127.0.0.1 and ::1.
pub(super) fn loopback_up() -> io::Result<()> {
    // Protocol 0 of netlink is that of devices, addresses and routes.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &set_up(1), SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (got, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    acknowledged(&answer[..got])
}

/// A netlink message: header (length, type, flags, sequence, port), then which device and which of its flags.
fn set_up(device: i32) -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message.extend([0; 8]);
    // Family, padding and type of the device: any.
    message.extend([0; 4]);
    message.extend(device.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message
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
