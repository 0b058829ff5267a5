//! Ranks that are threads of one process: sums over them through memory that they share. So the logic of several ranks runs where
//! there is no GPU; ranks in different processes need GPUs.

use crate::Cpu;
use s4_backend::{
    COMM_ID_BYTES, CommCall, CommId, CommOps, CommStop, Communicator, Error, Result, Scalar, group_error,
    peer_error,
};
use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What the ids of this process begin with, before their number.
fn id_prefix() -> String {
    format!("s4-node threads of process {} ", std::process::id())
}

/// How long a wait goes on without looking whether it is to end.
const POLL: Duration = Duration::from_millis(20);

/// The groups of this process, each until its last rank has left.
static GROUPS: Mutex<Option<HashMap<CommId, Arc<Group>>>> = Mutex::new(None);

/// Locks a mutex. A panic while it was locked leaves a consistent value: nothing is changed half.
fn lock<T>(x: &Mutex<T>) -> MutexGuard<'_, T> {
    x.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a group is of no more use.
#[derive(Clone)]
enum Failure {
    /// Ranks brought arrays of different sizes.
    Sizes,
    /// A rank has not come, or is known to be gone.
    Peer(String),
}

impl Failure {
    /// The error of a rank that comes to a group which has failed.
    fn error(&self, rank: usize) -> Error {
        match self {
            Failure::Sizes => group_error("exchanges of the same size on all ranks", "others"),
            Failure::Peer(got) => peer_error(rank, got),
        }
    }
}

/// What the ranks of a group share.
struct Group {
    world_size: usize,
    round: Mutex<Round>,
    changed: Condvar,
}

/// The round of an exchange that is under way.
struct Round {
    number: u64,
    /// What each rank has brought; `None` before it came.
    parts: Vec<Option<Vec<f64>>>,
    /// What all ranks take from the round before.
    result: Arc<Vec<f64>>,
    /// Which ranks have joined and not left.
    present: Vec<bool>,
    /// The first failure, which every rank is told that comes later: none makes an update that others have given up.
    failure: Option<Failure>,
}

impl Group {
    /// Brings `part`, waits for all ranks, and gives what `combine` makes of all parts, which the last rank to come calls.
    fn exchange(
        &self,
        rank: usize,
        part: Vec<f64>,
        combine: fn(Vec<Vec<f64>>) -> Vec<f64>,
        (timeout, stop): (Duration, &CommStop),
    ) -> Result<Arc<Vec<f64>>> {
        let begin = Instant::now();
        let mut round = lock(&self.round);
        let fail = |round: &mut Round, failure: Failure| {
            let error = failure.error(rank);
            round.failure = Some(failure);
            self.changed.notify_all();
            Err(error)
        };
        if let Some(failure) = &round.failure {
            return Err(failure.error(rank));
        }
        let number = round.number;
        round.parts[rank] = Some(part);
        if round.parts.iter().all(Option::is_some) {
            let parts: Vec<_> = round.parts.iter_mut().filter_map(Option::take).collect();
            if parts.iter().any(|part| part.len() != parts[0].len()) {
                return fail(&mut round, Failure::Sizes);
            }
            round.result = Arc::new(combine(parts));
            round.number += 1;
            self.changed.notify_all();
            return Ok(round.result.clone());
        }
        while round.number == number {
            if let Some(failure) = &round.failure {
                return Err(failure.error(rank));
            }
            if let Some(reason) = stop.reason() {
                return fail(&mut round, Failure::Peer(reason));
            }
            if begin.elapsed() > timeout {
                let missing: Vec<_> = (0..self.world_size).filter(|&r| round.parts[r].is_none()).collect();
                let missing = missing.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
                let got = format!("nothing of rank {missing} within {} s", timeout.as_secs_f64());
                return fail(&mut round, Failure::Peer(got));
            }
            round = self.changed.wait_timeout(round, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(round.result.clone())
    }
}

/// One thread's membership in a group.
struct ThreadComm<T> {
    group: Arc<Group>,
    call: CommCall,
    scalar: PhantomData<fn() -> T>,
}

impl<T> Drop for ThreadComm<T> {
    fn drop(&mut self) {
        let mut groups = lock(&GROUPS);
        let mut round = lock(&self.group.round);
        round.present[self.call.rank] = false;
        if !round.present.contains(&true)
            && let Some(groups) = groups.as_mut()
        {
            groups.remove(&self.call.id);
        }
    }
}

impl<T: Scalar> ThreadComm<T> {
    /// Brings the values of `views`, and replaces them by what the exchange gives.
    fn exchange(&self, views: &mut [&mut [T]], combine: fn(Vec<Vec<f64>>) -> Vec<f64>) -> Result<()> {
        let part = views.iter().flat_map(|view| view.iter().map(|&x| Scalar::to_f64(x))).collect();
        let waits = (self.call.timeout, &self.call.stop);
        let result = self.group.exchange(self.call.rank, part, combine, waits)?;
        let places = views.iter_mut().flat_map(|view| view.iter_mut());
        places.zip(result.iter()).for_each(|(place, &x)| *place = T::from_f64(x));
        Ok(())
    }
}

impl<T: Scalar> Communicator<Cpu<T>> for ThreadComm<T> {
    fn rank(&self) -> usize {
        self.call.rank
    }
    fn world_size(&self) -> usize {
        self.call.world_size
    }
    fn all_reduce(&mut self, views: &mut [&mut [T]]) -> Result<()> {
        self.exchange(views, |parts| {
            let mut sums = vec![0.0; parts[0].len()];
            parts.iter().for_each(|part| sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x));
            sums
        })
    }
    fn broadcast(&mut self, views: &mut [&mut [T]], root: usize) -> Result<()> {
        if root != 0 {
            return Err(group_error("a broadcast from rank 0", root));
        }
        self.exchange(views, |mut parts| parts.swap_remove(0))
    }
}

impl<T: Scalar> CommOps for Cpu<T> {
    fn comm_id(&self) -> Result<CommId> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let text = format!("{}group {}", id_prefix(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut id = [0; COMM_ID_BYTES];
        id[..text.len()].copy_from_slice(text.as_bytes());
        Ok(id)
    }

    fn join(&self, call: &CommCall) -> Result<Box<dyn Communicator<Self>>> {
        call.check()?;
        if call.world_size > 1 && !call.id.starts_with(id_prefix().as_bytes()) {
            return Err(group_error("a GPU for each rank that is a process", "a model on the CPU"));
        }
        let group = {
            let mut groups = lock(&GROUPS);
            let round = Round {
                number: 0,
                parts: vec![None; call.world_size],
                result: Arc::default(),
                present: vec![false; call.world_size],
                failure: None,
            };
            let fresh =
                || Group { world_size: call.world_size, round: Mutex::new(round), changed: Condvar::new() };
            let group =
                groups.get_or_insert_default().entry(call.id).or_insert_with(|| Arc::new(fresh())).clone();
            if group.world_size != call.world_size {
                return Err(group_error(format!("{} ranks", group.world_size), call.world_size));
            }
            let present = std::mem::replace(&mut lock(&group.round).present[call.rank], true);
            if present {
                return Err(group_error("each rank once", format!("rank {} twice", call.rank)));
            }
            group
        };
        let comm = ThreadComm { group, call: call.clone(), scalar: PhantomData };
        // Returns when all have come.
        comm.exchange(&mut [], |_| Vec::new())?;
        Ok(Box::new(comm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: CommId, rank: usize, world_size: usize, millis: u64) -> CommCall {
        CommCall { id, rank, world_size, timeout: Duration::from_millis(millis), stop: CommStop::default() }
    }

    /// Runs each rank on a thread of its own.
    fn ranks<R: Send>(world_size: usize, run: impl Fn(usize, CommId) -> R + Sync) -> Vec<R> {
        let id = Cpu::<f32>::new(1).unwrap().comm_id().unwrap();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..world_size)
                .map(|rank| {
                    scope.spawn({
                        let run = &run;
                        move || run(rank, id)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_rank_has_the_sum_and_the_roots_numbers() {
        let results = ranks(3, |rank, id| {
            let be = Cpu::<f32>::new(1).unwrap();
            let mut comm = be.join(&call(id, rank, 3, 10_000)).unwrap();
            let (mut a, mut b) = (vec![rank as f32 + 1.0, 0.5], vec![10.0 * rank as f32]);
            for _ in 0..100 {
                comm.all_reduce(&mut [&mut a, &mut b]).unwrap();
                comm.broadcast(&mut [&mut b], 0).unwrap();
                a.iter_mut().for_each(|x| *x /= 3.0);
            }
            comm.all_reduce(&mut [&mut a, &mut b]).unwrap();
            (a, b)
        });
        assert!(results.iter().all(|r| *r == results[0]));
        // The mean of 1, 2 and 3 stays, thrice; so does that of 0.5.
        assert!((results[0].0[0] - 6.0).abs() < 1e-3 && (results[0].0[1] - 1.5).abs() < 1e-3);
    }

    #[test]
    fn a_rank_that_does_not_come_is_named() {
        let errors = ranks(3, |rank, id| {
            let be = Cpu::<f64>::new(1).unwrap();
            let mut comm = be.join(&call(id, rank, 3, 300)).unwrap();
            match rank {
                1 => None,
                _ => Some(comm.all_reduce(&mut [&mut [1.0]]).unwrap_err()),
            }
        });
        for error in [&errors[0], &errors[2]] {
            let error = error.as_ref().unwrap();
            assert_eq!(error.code.as_str(), "ERR_S4_PEER");
            assert!(error.got.contains("rank 1 "), "{error}");
        }
    }

    #[test]
    fn a_stop_ends_a_wait_at_once() {
        let stop = CommStop::default();
        let begin = Instant::now();
        let errors = ranks(2, |rank, id| {
            let be = Cpu::<f64>::new(1).unwrap();
            let mut call = call(id, rank, 2, 60_000);
            call.stop = stop.clone();
            let mut comm = be.join(&call).unwrap();
            if rank == 1 {
                stop.stop("rank 1 has left");
                return None;
            }
            Some(comm.all_reduce(&mut [&mut [1.0]]).unwrap_err())
        });
        let error = errors[0].as_ref().unwrap();
        assert!(error.code.as_str() == "ERR_S4_PEER" && error.got == "rank 1 has left", "{error}");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn arrays_of_other_sizes_end_all_ranks_at_once() {
        let begin = Instant::now();
        let errors = ranks(3, |rank, id| {
            let be = Cpu::<f64>::new(1).unwrap();
            let mut comm = be.join(&call(id, rank, 3, 60_000)).unwrap();
            let mut x = vec![1.0; if rank == 1 { 3 } else { 2 }];
            [(); 2].map(|()| comm.all_reduce(&mut [&mut x]).unwrap_err().code.as_str())
        });
        assert!(errors.iter().flatten().all(|code| *code == "ERR_S4_DISTRIBUTED"), "{errors:?}");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_rank_that_comes_too_late_makes_no_update_alone() {
        let errors = ranks(2, |rank, id| {
            let be = Cpu::<f64>::new(1).unwrap();
            let mut comm = be.join(&call(id, rank, 2, 200)).unwrap();
            if rank == 1 {
                std::thread::sleep(Duration::from_millis(800));
            }
            comm.all_reduce(&mut [&mut [1.0]]).unwrap_err()
        });
        for error in errors {
            assert!(error.code.as_str() == "ERR_S4_PEER" && error.got.contains("rank 1 "), "{error}");
        }
    }

    #[test]
    fn a_rank_that_is_there_already_is_refused() {
        let be = Cpu::<f64>::new(1).unwrap();
        let id = be.comm_id().unwrap();
        std::thread::scope(|scope| {
            let first =
                scope.spawn(|| Cpu::<f64>::new(1).unwrap().join(&call(id, 0, 2, 1000)).err().unwrap());
            std::thread::sleep(Duration::from_millis(200));
            let error = be.join(&call(id, 0, 2, 1000)).err().unwrap();
            assert!(error.code.as_str() == "ERR_S4_DISTRIBUTED" && error.got.contains("rank 0"), "{error}");
            assert_eq!(first.join().unwrap().code.as_str(), "ERR_S4_PEER");
        });
    }

    #[test]
    fn ranks_of_other_processes_are_refused() {
        let be = Cpu::<f32>::new(1).unwrap();
        let error = be.join(&call([7; COMM_ID_BYTES], 0, 2, 1000)).err().unwrap();
        assert_eq!(error.code.as_str(), "ERR_S4_DISTRIBUTED");
        let id = be.comm_id().unwrap();
        assert_eq!(be.join(&call(id, 2, 2, 1000)).err().unwrap().code.as_str(), "ERR_S4_DISTRIBUTED");
    }
}
