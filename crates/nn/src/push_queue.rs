//! Pushes that wait for their turn, for several threads to take.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// A queue of pushes with ascending numbers. A thread takes them as long as their numbers follow each other: what has a number between
/// two of them is somebody else's, in whose turn nothing may be taken. Those whose numbers follow each other are computed in any order, so what one of them
/// changes must be no other's.
#[derive(Debug)]
pub struct PushQueue<P> {
    pushes: Mutex<Pushes<P>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Pushes<P> {
    /// In the order of their numbers.
    waiting: VecDeque<(u64, P)>,
    /// The number that may be taken.
    next: u64,
    /// Threads that take pushes, and those of them that wait for one.
    threads: usize,
    idle: usize,
    /// Whether all threads are to end: none had a push, or the next one wants them to.
    is_over: bool,
}

impl<P> Default for PushQueue<P> {
    fn default() -> Self {
        let pushes = Pushes { waiting: VecDeque::new(), next: 0, threads: 0, idle: 0, is_over: false };
        PushQueue { pushes: Mutex::new(pushes), changed: Condvar::new() }
    }
}

impl<P> PushQueue<P> {
    fn lock(&self) -> MutexGuard<'_, Pushes<P>> {
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a push, whose number is higher than those before it.
    pub fn add(&self, number: u64, push: P) {
        self.lock().waiting.push_back((number, push));
        self.changed.notify_one();
    }

    /// It is the turn of push `number`, and of those whose numbers follow. False where it has been taken.
    pub fn begin(&self, number: u64) -> bool {
        let mut pushes = self.lock();
        pushes.next = number;
        pushes.waiting.front().is_some_and(|(first, _)| *first == number)
    }

    /// Takes push `number` out of the queue, for whoever does not want it computed.
    pub fn remove(&self, number: u64) -> Option<P> {
        let mut pushes = self.lock();
        let at = pushes.waiting.iter().position(|(other, _)| *other == number)?;
        pushes.waiting.remove(at).map(|(_, push)| push)
    }

    /// The next push, for whoever is alone.
    pub(crate) fn take(&self) -> Option<P> {
        let mut pushes = self.lock();
        pushes.is_over = false;
        pushes.take_next().map(|(_, push)| push)
    }

    /// For one of several threads.
    pub(crate) fn enter(&self) -> Taking<'_, P> {
        self.lock().threads += 1;
        Taking(self)
    }
}

/// A thread that takes pushes, beside others.
pub(crate) struct Taking<'a, P>(&'a PushQueue<P>);

impl<P> Taking<'_, P> {
    /// The next push, with its number. Where none waits, waits for one as long as other threads compute some. `None` where all threads are to end.
    pub(crate) fn take(&self) -> Option<(u64, P)> {
        let PushQueue { changed, .. } = self.0;
        let mut pushes = self.0.lock();
        loop {
            if pushes.is_over {
                return None;
            }
            if let Some(taken) = pushes.take_next() {
                return Some(taken);
            }
            if pushes.idle + 1 == pushes.threads {
                // All end together: none goes on alone with what comes now.
                pushes.is_over = true;
                changed.notify_all();
                return None;
            }
            pushes.idle += 1;
            pushes = changed.wait(pushes).unwrap_or_else(PoisonError::into_inner);
            pushes.idle -= 1;
        }
    }

    /// A push that was taken is to be computed when all threads have ended: it is the next one again, and no other is taken before it.
    pub(crate) fn put_back(&self, number: u64, push: P) {
        let mut pushes = self.0.lock();
        let at = pushes.waiting.partition_point(|(other, _)| *other < number);
        pushes.waiting.insert(at, (number, push));
        pushes.next = pushes.next.min(number);
        pushes.is_over = true;
        self.0.changed.notify_all();
    }
}

impl<P> Drop for Taking<'_, P> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.changed.notify_all();
    }
}

impl<P> Pushes<P> {
    fn take_next(&mut self) -> Option<(u64, P)> {
        let is_next = self.waiting.front().is_some_and(|(number, _)| *number == self.next);
        let taken = if is_next { self.waiting.pop_front() } else { None };
        self.next += u64::from(taken.is_some());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_taken_while_their_numbers_follow() {
        let queue = PushQueue::default();
        [3, 4, 6].into_iter().for_each(|number| queue.add(number, 10 * number));
        assert!(queue.begin(3));
        let thread = queue.enter();
        assert_eq!([thread.take(), thread.take()], [Some((3, 30)), Some((4, 40))]);
        // Number 5 is somebody else's.
        assert_eq!(thread.take(), None);
        drop(thread);
        assert!(!queue.begin(4));
        assert!(queue.begin(6));
        assert_eq!(queue.remove(6), Some(60));
        assert!(!queue.begin(6) && queue.take().is_none());
    }

    #[test]
    fn what_wants_to_be_alone_is_the_next_again() {
        let queue = PushQueue::default();
        (1..=4).for_each(|number| queue.add(number, number));
        assert!(queue.begin(1));
        let threads = [queue.enter(), queue.enter()];
        assert_eq!([threads[0].take(), threads[1].take()], [Some((1, 1)), Some((2, 2))]);
        threads[1].put_back(2, 2);
        assert_eq!(threads[1].take(), None, "before all threads have ended");
        threads[0].put_back(1, 1);
        drop(threads);
        assert_eq!(queue.take(), Some(1));
        // Those behind it may go by threads again.
        let thread = queue.enter();
        assert_eq!([(); 4].map(|()| thread.take()), [Some((2, 2)), Some((3, 3)), Some((4, 4)), None]);
    }

    /// A thread that has ended with its push while none waits must not leave the others to what comes then.
    #[test]
    fn threads_without_a_push_wait_until_all_are_without() {
        let queue = PushQueue::default();
        queue.add(0, "first");
        assert!(queue.begin(0));
        let this = queue.enter();
        assert_eq!(this.take(), Some((0, "first")));
        std::thread::scope(|threads| {
            let other = threads.spawn(|| {
                let other = queue.enter();
                [other.take(), other.take()]
            });
            while queue.lock().idle == 0 {
                std::thread::yield_now();
            }
            queue.add(1, "second");
            while !queue.lock().waiting.is_empty() || queue.lock().idle == 0 {
                std::thread::yield_now();
            }
            // The other one has come back. None waits, and both end.
            assert_eq!(this.take(), None);
            assert_eq!(other.join().expect("a thread"), [Some((1, "second")), None]);
        });
    }

    #[test]
    fn a_thread_that_panics_is_not_waited_for() {
        let queue = PushQueue::default();
        queue.add(0, ());
        assert!(queue.begin(0));
        let this = queue.enter();
        std::thread::scope(|threads| {
            let other = threads.spawn(|| {
                let other = queue.enter();
                other.take();
                while queue.lock().idle == 0 {
                    std::thread::yield_now();
                }
                panic!("on purpose");
            });
            while !queue.lock().waiting.is_empty() {
                std::thread::yield_now();
            }
            assert_eq!(this.take(), None);
            assert!(other.join().is_err());
        });
    }
}
