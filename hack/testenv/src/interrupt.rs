//! Ctrl-C as something to wait for, so that a program can stop its peers in order.

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

/// From now on SIGINT, SIGTERM and SIGHUP do not end this process: the first of them resolves what is returned, the second
/// ends it at once (and its peers die with it). Call it in `main` before any other thread is started.
pub fn interrupted() -> Result<impl Future<Output = ()>> {
    let signals = blocked()?;
    let (tell, told) = oneshot::channel();
    let wait = move || {
        if wait_for(&signals).is_ok() {
            // Nobody may be listening any more; then the process is ending anyway.
            let _ = tell.send(());
        }
        if let Ok(signal) = wait_for(&signals) {
            std::process::exit(128 + signal);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("starting the signals thread")?;
    Ok(async {
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Blocks the signals in this thread, and with it in all threads that it starts. (The spawner unblocks them in a child.)
fn blocked() -> Result<libc::sigset_t> {
    let mut signals = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; the other calls only add to it and read it.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(signals.as_mut_ptr(), signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut()) {
            0 => Ok(signals.assume_init()),
            error => bail!("blocking signals: {}", std::io::Error::from_raw_os_error(error)),
        }
    }
}

fn wait_for(signals: &libc::sigset_t) -> Result<i32> {
    let mut signal = 0;
    // SAFETY: both point to live values of the right type.
    match unsafe { libc::sigwait(signals, &mut signal) } {
        0 => Ok(signal),
        error => bail!("waiting for a signal: {}", std::io::Error::from_raw_os_error(error)),
    }
}
