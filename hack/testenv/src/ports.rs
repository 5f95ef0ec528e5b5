//! Free ports. They come from below the kernel's ephemeral range: a peer that is
//! killed and restarted must find its port free, and not in use as the local end
//! of somebody's outgoing connection.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

const FIRST: u32 = 11_000;
const COUNT: u32 = 21_000;

/// Hands out each free port once; starts at a place that differs between runs.
pub(crate) struct Ports(AtomicU32);

impl Default for Ports {
    fn default() -> Ports {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
        Ports(AtomicU32::new(now.wrapping_add(std::process::id().wrapping_mul(7919)) % COUNT))
    }
}

impl Ports {
    pub(crate) fn free(&self) -> Result<u16> {
        for _ in 0..500 {
            let candidate = FIRST + self.0.fetch_add(1, Ordering::Relaxed) % COUNT;
            let Ok(port) = u16::try_from(candidate) else { continue };
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }
}
