//! When things are looked at: as soon as somebody tells of them, again after the pause that the last look asked for, and never
//! twice at a time. A task lives for as long as its look; what only waits for its pause is a line in a queue.
//!
//! kube's Controller would do the same, but goes through everything that is told of while it is being looked at whenever it is
//! polled: where thousands of requests wait for their turns, that is quadratic, and who comes then waits for all of them.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::time::{DelayQueue, delay_queue};

use super::room::{give_back, is_mostly_empty};

/// What would rest longer is looked at once more then: the queue of pauses ends somewhere.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks at whatever `told` names until that ends or `stopped` turns true, and then until the looks under way are over. A look
/// says after which pause the next is due; none: not before it is told of again.
pub async fn run<K, F>(
    told: impl Stream<Item = K> + Send,
    look: impl Fn(K) -> F + Clone + Send + 'static,
    stopped: watch::Receiver<bool>,
) where
    K: Clone + Eq + Hash + Send + 'static,
    F: Future<Output = Option<Duration>> + Send + 'static,
{
    let mut told = std::pin::pin!(told);
    let mut stopped = stopped;
    let mut schedule = Schedule { known: HashMap::new(), pauses: DelayQueue::new(), looks: JoinSet::new(), look };
    loop {
        tokio::select! {
            what = told.next() => match what {
                Some(what) => schedule.told(what),
                None => break,
            },
            Some(ended) = schedule.looks.join_next() => {
                let (what, pause) = unbroken(ended);
                schedule.ended(what, pause);
            }
            Some(pause) = schedule.pauses.next() => schedule.begin(pause.into_inner()),
            // A dropped sender means that the process is ending.
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    while let Some(ended) = schedule.looks.join_next().await {
        unbroken(ended);
    }
}

struct Schedule<K, L> {
    known: HashMap<K, State>,
    pauses: DelayQueue<K>,
    looks: JoinSet<(K, Option<Duration>)>,
    look: L,
}

/// Of what is known.
enum State {
    /// It is being looked at; true: it was told of since that look began.
    Looking(Arc<AtomicBool>),
    /// It waits for the end of this pause.
    Resting(delay_queue::Key),
}

impl<K, L, F> Schedule<K, L>
where
    K: Clone + Eq + Hash + Send + 'static,
    L: Fn(K) -> F + Clone + Send + 'static,
    F: Future<Output = Option<Duration>> + Send + 'static,
{
    fn told(&mut self, what: K) {
        match self.known.get(&what) {
            Some(State::Looking(again)) => return again.store(true, Ordering::Release),
            Some(State::Resting(pause)) => drop(self.pauses.remove(pause)),
            None => {}
        }
        self.begin(what);
    }

    fn begin(&mut self, what: K) {
        let again = Arc::new(AtomicBool::new(false));
        self.known.insert(what.clone(), State::Looking(Arc::clone(&again)));
        let look = self.look.clone();
        self.looks.spawn(async move {
            // What was told until now is seen by this look.
            again.swap(false, Ordering::Acquire);
            let pause = look(what.clone()).await;
            (what, pause)
        });
    }

    fn ended(&mut self, what: K, pause: Option<Duration>) {
        if let Some(State::Looking(again)) = self.known.get(&what)
            && again.load(Ordering::Acquire)
        {
            return self.begin(what);
        }
        match pause {
            Some(pause) => {
                let pause = self.pauses.insert(what.clone(), pause.min(LONGEST_PAUSE));
                self.known.insert(what, State::Resting(pause));
            }
            None => {
                self.known.remove(&what);
                give_back(&mut self.known);
                if is_mostly_empty(self.pauses.len(), self.pauses.capacity()) {
                    self.pauses.compact();
                }
            }
        }
    }
}

/// A look that panics is a defect, and ends whoever runs all of them.
fn unbroken<T>(ended: Result<T, JoinError>) -> T {
    match ended {
        Ok(ended) => ended,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::channel::mpsc::{UnboundedSender, unbounded};
    use tokio::time::sleep;

    use super::*;

    /// A look takes a second; `pauses` says what each asks for.
    struct Scene {
        tell: UnboundedSender<u8>,
        stop: watch::Sender<bool>,
        looks: Arc<AtomicUsize>,
        at_once: Arc<AtomicUsize>,
        run: tokio::task::JoinHandle<()>,
    }

    impl Scene {
        #[expect(clippy::disallowed_methods, reason = "the test ends it")]
        fn new(pause: impl Fn(usize) -> Option<u64> + Clone + Send + Sync + 'static) -> Self {
            let (tell, told) = unbounded();
            let (stop, stopped) = watch::channel(false);
            let (looks, now, at_once) =
                (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (counted, most) = (Arc::clone(&looks), Arc::clone(&at_once));
            let look = move |_: u8| {
                let (pause, counted, now, most) = (pause.clone(), counted.clone(), now.clone(), most.clone());
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    sleep(Duration::from_secs(1)).await;
                    now.fetch_sub(1, Ordering::Relaxed);
                    pause(counted.fetch_add(1, Ordering::Relaxed) + 1).map(Duration::from_secs)
                }
            };
            let run = tokio::spawn(run(told, look, stopped));
            Self { tell, stop, looks, at_once, run }
        }

        fn tell(&self, what: u8) {
            self.tell.unbounded_send(what).expect("it runs");
        }

        /// After so many seconds there have been so many looks.
        #[track_caller]
        fn seen(&self, looks: usize) {
            assert_eq!(self.looks.load(Ordering::Relaxed), looks);
        }
    }

    async fn seconds(seconds: f64) {
        sleep(Duration::from_secs_f64(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_of_while_it_is_looked_at_is_looked_at_once_more_and_not_at_the_same_time() {
        let scene = Scene::new(|_| None);
        scene.tell(1);
        seconds(0.5).await;
        for _ in 0..5 {
            scene.tell(1);
        }
        seconds(10.0).await;
        scene.seen(2);
        assert_eq!(scene.at_once.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_before_a_look_needs_no_other() {
        let scene = Scene::new(|_| None);
        scene.tell(1);
        scene.tell(1);
        seconds(5.0).await;
        scene.seen(1);
    }

    #[tokio::test(start_paused = true)]
    async fn different_things_are_looked_at_side_by_side() {
        let scene = Scene::new(|_| None);
        (0..100).for_each(|what| scene.tell(what));
        seconds(1.5).await;
        scene.seen(100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_by_itself_or_by_a_word() {
        let scene = Scene::new(|look| (look < 3).then_some(100));
        scene.tell(1);
        seconds(50.0).await;
        scene.seen(1);
        seconds(52.5).await;
        scene.seen(2);
        scene.tell(1);
        seconds(2.0).await;
        scene.seen(3);
        seconds(1_000.0).await;
        scene.seen(3);
        scene.tell(1);
        seconds(2.0).await;
        scene.seen(4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_looks_and_for_no_pause() {
        let scene = Scene::new(|_| Some(3_600));
        scene.tell(1);
        seconds(5.0).await;
        scene.tell(2);
        seconds(0.5).await;
        scene.stop.send_replace(true);
        seconds(0.4).await;
        assert!(!scene.run.is_finished(), "a look is under way");
        seconds(0.2).await;
        assert!(scene.run.is_finished());
        scene.seen(2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_is_too_long() {
        let scene = Scene::new(|_| Some(u64::MAX));
        scene.tell(1);
        seconds(5.0).await;
        scene.seen(1);
        scene.tell(1);
        seconds(5.0).await;
        scene.seen(2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_panics_ends_everything() {
        let scene = Scene::new(|_| panic!("a defect"));
        scene.tell(1);
        assert!(scene.run.await.is_err_and(|error| error.is_panic()));
    }
}
