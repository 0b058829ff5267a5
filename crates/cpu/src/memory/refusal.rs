//! Refuses scratch memory that the machine does not have.
//!
//! Scratch is taken deep inside of operations, on threads of the pool too. Its refusal unwinds with the error as its payload, without
//! the message of a panic: rayon carries it from its threads to the caller, and the edge, which lets no panic out, knows it by its
//! type and gives the error (`panic_error` of crates/node). Nothing that an operation was given is lost: inputs and parameters are
//! shared borrows, and outputs are made by the caller.

use s4_backend::{Error, host_memory};

/// Ends the operation under way with `error`.
pub(crate) fn refuse(error: Error) -> ! {
    std::panic::resume_unwind(Box::new(error))
}

/// `len` zeros. Where there is not enough memory for them, ends the operation with that error ([`refuse`]).
pub(crate) fn zeros<T: Copy + Default>(what: &str, len: usize) -> Vec<T> {
    host_memory::zeros("s4-node", what, len).unwrap_or_else(|error| refuse(error))
}

/// The refusal where `len` elements of `T` are more than there is memory for: before a library asks for them.
pub(crate) fn require_memory<T>(what: &str, len: usize) {
    let bytes = len as u128 * size_of::<T>() as u128;
    host_memory::check("s4-node", what, bytes).unwrap_or_else(|error| refuse(error));
}

#[cfg(test)]
mod tests {
    use crate::{
        Cpu, Workspace,
        memory::{counter::Counter, tasks::ThreadScratch},
    };
    use s4_backend::{Code, ConvForward, ConvShape, Error, Memory};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// The error that unwound, if one did.
    fn refused(body: impl FnOnce()) -> Option<Error> {
        let payload = catch_unwind(AssertUnwindSafe(body)).err()?;
        Some(*payload.downcast::<Error>().expect("an error as the payload"))
    }

    #[test]
    fn what_cannot_be_had_is_the_same_error_on_every_thread() {
        const HUGE: usize = 1 << 50;
        let be = Cpu::<f32>::new(2).unwrap();
        let takes: [fn(&mut Workspace<f32>); 4] = [
            |ws| drop(ws.real.take(HUGE)),
            |ws| drop(ws.complex.take(HUGE)),
            |ws| drop(ws.f64.take(HUGE)),
            |ws| drop(ws.c64.take(HUGE)),
        ];
        for take in takes {
            let mut ws = Workspace::<f32>::new(&Counter::default());
            let here = refused(|| take(&mut ws)).unwrap();
            assert_eq!(here.code, Code::Memory, "{here}");
            let there = refused(|| be.install(|| take(&mut ws))).unwrap();
            assert_eq!(there.code, Code::Memory, "{there}");
            let task = refused(|| {
                be.tasks(4, usize::MAX, |i| {
                    if i == 2 {
                        take(&mut Workspace::new(&Counter::default()));
                    }
                });
            });
            assert_eq!(task.unwrap().code, Code::Memory);
            // Both go on.
            ws.real.take(8);
            let mut own = [0.0f32; 8];
            let thread_scratch = ThreadScratch::new(&mut own, 4);
            be.tasks(4, usize::MAX, |_| thread_scratch.lock()[0] += 1.0);
            assert_eq!(own[0] + own[4], 4.0);
        }
    }

    #[test]
    fn an_operation_after_a_refusal_is_what_it_was() {
        let be = Cpu::<f32>::new(2).unwrap();
        let mut ws = be.workspace();
        let shape =
            ConvShape { batch: 1, heads: 1, len: 4, channels: 1, kernel_len: 2, bidirectional: false };
        let conv = |ws: &mut Workspace<f32>| {
            let mut y = [0.0f32; 4];
            let (u, kernel) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0]);
            let args = ConvForward::<Cpu<f32>> { y: &mut y, u: &u, kernel: &kernel, d: None, shape };
            be.conv_by_fft(args, ws).unwrap();
            y.map(f32::round)
        };
        assert_eq!(conv(&mut ws), [1.0, 12.0, 23.0, 34.0]);
        assert!(refused(|| drop(ws.complex.take(1 << 50))).is_some());
        assert_eq!(conv(&mut ws), [1.0, 12.0, 23.0, 34.0]);
    }
}
