//! Work that is undone where it fails, by an error or by unwinding (memory that is refused deep within an operation unwinds).

use s4_backend::Result;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `work` on `state`; where it fails, `undo` before the failure goes on to the caller.
pub(crate) fn or_undo<S: ?Sized, R>(
    state: &mut S,
    work: impl FnOnce(&mut S) -> Result<R>,
    undo: impl FnOnce(&mut S),
) -> Result<R> {
    match catch_unwind(AssertUnwindSafe(|| work(state))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            undo(state);
            Err(error)
        }
        Err(payload) => {
            undo(state);
            resume_unwind(payload)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s4_backend::Error;

    #[test]
    fn an_error_and_an_unwinding_are_undone_and_go_on() {
        let mut state = 1;
        let kept = or_undo(
            &mut state,
            |s| {
                *s = 2;
                Ok(*s)
            },
            |s| *s = 0,
        );
        assert_eq!((kept.unwrap(), state), (2, 2));
        let refused = or_undo(
            &mut state,
            |s| {
                *s = 3;
                Err::<(), _>(Error::value("test", "nothing", "something"))
            },
            |s| *s = 1,
        );
        assert!(refused.is_err());
        assert_eq!(state, 1);
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let work = |s: &mut i32| -> Result<()> {
                *s = 4;
                resume_unwind(Box::new("payload"))
            };
            or_undo(&mut state, work, |s| *s = 5)
        }));
        assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"payload"));
        assert_eq!(state, 5);
    }
}
