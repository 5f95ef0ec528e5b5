//! The one thread that starts every peer. `PR_SET_PDEATHSIG` fires when the
//! *thread* that spawned a child ends, so a tokio worker must not do it: the
//! peers live exactly as long as this thread, and die even if we are killed.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};

struct Order {
    command: Command,
    reply: Sender<std::io::Result<Child>>,
}

/// The handle of the spawner thread; dropping it ends the thread and every peer.
pub(crate) struct Spawner {
    orders: Mutex<Option<Sender<Order>>>,
    thread: Option<JoinHandle<()>>,
}

impl Spawner {
    pub(crate) fn start() -> Result<Spawner> {
        let (orders, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || serve(&inbox))
            .context("starting the spawner thread")?;
        Ok(Spawner { orders: Mutex::new(Some(orders)), thread: Some(thread) })
    }

    /// Starts a process in a group of its own that dies with the run.
    pub(crate) fn spawn(&self, command: Command) -> Result<Child> {
        let (reply, answer) = channel();
        let orders = self.orders.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let sender = orders.as_ref().context("the run has ended")?;
        sender.send(Order { command, reply }).map_err(|_| anyhow!("the spawner thread has ended"))?;
        drop(orders);
        Ok(answer.recv().context("the spawner thread has ended")??)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.orders.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; were it so, its children are dead already.
            let _ = thread.join();
        }
    }
}

fn serve(inbox: &Receiver<Order>) {
    for Order { mut command, reply } in inbox {
        command.process_group(0);
        // SAFETY: the calls are async-signal-safe and touch only the new process; the set is initialised before it is read.
        unsafe {
            command.pre_exec(|| {
                // A child inherits what `interrupted` blocks, and would never hear of a SIGTERM.
                let mut none = std::mem::MaybeUninit::uninit();
                libc::sigemptyset(none.as_mut_ptr());
                let unblocked = libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
                match (unblocked, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)) {
                    (0, 0) => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        // Whoever ordered it may be gone; then the child is dropped and dies with the run.
        let _ = reply.send(command.spawn());
    }
}
