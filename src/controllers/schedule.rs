//! When things are looked at: as soon as somebody tells of them, again after the pause that the last look asked for, and never
//! twice at a time. Each has a task of its own for as long as there is something to wait for.
//!
//! kube's Controller would do the same, but goes through everything that is told of while it is being looked at whenever it is
//! polled: where thousands of requests wait for their turns, that is quadratic, and who comes then waits for all of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

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
    let mut waiting: HashMap<K, Sender<()>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let begin = |tasks: &mut JoinSet<_>, what: K, ear| {
        tasks.spawn(keep_looking(what, ear, look.clone(), stopped.clone()));
    };
    let mut over = stopped.clone();
    loop {
        tokio::select! {
            what = told.next() => match what {
                Some(what) => match waiting.entry(what.clone()) {
                    // Full means that it is known already.
                    Entry::Occupied(mouth) => drop(mouth.get().try_send(())),
                    Entry::Vacant(place) => {
                        let (mouth, ear) = channel(1);
                        place.insert(mouth);
                        begin(&mut tasks, what, ear);
                    }
                },
                None => break,
            },
            Some(ended) = tasks.join_next() => {
                let (what, mut ear) = unbroken(ended);
                // Told of again when its last look had just ended.
                if ear.try_recv().is_ok() {
                    begin(&mut tasks, what, ear);
                } else {
                    waiting.remove(&what);
                }
            }
            // A dropped sender means that the process is ending.
            _ = over.wait_for(|stop| *stop) => break,
        }
    }
    while let Some(ended) = tasks.join_next().await {
        unbroken(ended);
    }
}

/// Looks at one thing until there is nothing to wait for but somebody's word.
async fn keep_looking<K: Clone, F: Future<Output = Option<Duration>>>(
    what: K,
    mut ear: Receiver<()>,
    look: impl Fn(K) -> F,
    mut stopped: watch::Receiver<bool>,
) -> (K, Receiver<()>) {
    loop {
        // What was told until now is seen by this look. In a box, because what only waits for its pause needs no room for it.
        let _heard = ear.try_recv().is_ok();
        let Some(pause) = Box::pin(look(what.clone())).await else { break };
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            _ = ear.recv() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    (what, ear)
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
    async fn a_look_that_panics_ends_everything() {
        let scene = Scene::new(|_| panic!("a defect"));
        scene.tell(1);
        assert!(scene.run.await.is_err_and(|error| error.is_panic()));
    }
}
