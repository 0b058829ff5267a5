//! The methods of `NativeModel` for streams in slots. JavaScript names a set of slots by the number that `slotsOpen` gives.

use crate::{
    buffer::{Bytes, Data, DataIn, copied_bytes},
    error::{disposed_error, to_js, to_js_result},
    model::NativeModel,
    model_ops::BoxedModel,
    native_push::NativePush,
    objects::OpenSlots,
    worker::{catch_panic, live_state},
};
use napi::{
    Env,
    bindgen_prelude::{Object, Uint8Array, Uint32Array},
};
use napi_derive::napi;
use s4_backend::{Code, Error, Result};
use s4_nn::SlotPush;
use std::sync::{Arc, PoisonError};

/// The pushes as JavaScript gives them: slots, time steps of each, and whether each has intervals (1) or not (0).
fn pushes_of(slots: &Uint32Array, lens: &Uint32Array, timed: &Uint8Array) -> Result<Vec<SlotPush>> {
    if slots.len() != lens.len() || slots.len() != timed.len() {
        return Err(Error::shape("slotsPush", "as many slots as lengths", slots.len()));
    }
    let pushes = slots.iter().zip(lens.iter()).zip(timed.iter());
    Ok(pushes
        .map(|((&slot, &len), &timed)| SlotPush {
            slot: slot as usize,
            len: len as usize,
            has_intervals: timed != 0,
        })
        .collect())
}

#[napi]
impl NativeModel {
    /// Makes streams in `slots` slots, all from zero states.
    #[napi]
    pub fn slots_open(&self, slots: u32, rate: f64) -> napi::Result<OpenSlots> {
        to_js_result(|| {
            let open = self.worker.call(move |m| m.slots_open(slots as usize, rate))?;
            let mut queues = self.slot_queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.insert(open.id, Arc::default());
            Ok(open)
        })
    }
    /// Zeroes the states of the slots `zero`, then pushes the next time steps of some slots, off the JavaScript thread: beside other pushes, where
    /// nothing else was asked of the handle in between.
    #[napi(ts_return_type = "Promise<SlotResults>")]
    #[allow(clippy::too_many_arguments)]
    pub fn slots_push<'env>(
        &self,
        env: &'env Env,
        id: u32,
        zero: Uint32Array,
        x: DataIn,
        slots: Uint32Array,
        lens: Uint32Array,
        timed: Uint8Array,
        intervals: Option<DataIn>,
    ) -> napi::Result<Object<'env>> {
        let pushes = pushes_of(&slots, &lens, &timed).map_err(to_js)?;
        let intervals = intervals.as_ref().map(Data::copy).transpose().map_err(to_js)?;
        let x = Data::copy(&x).map_err(to_js)?;
        let reset = zero.iter().map(|&slot| slot as usize).collect();
        let queues = self.slot_queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(&id).cloned().ok_or_else(|| to_js(disposed_error()))?;
        drop(queues);
        let queue_of_job = queue.clone();
        self.worker.shared_job(
            env,
            |number| {
                let (results, promise) = env.create_deferred()?;
                queue.add(number, NativePush { reset, pushes, x, intervals, results: Some(results) });
                Ok(promise)
            },
            move |number, slot, has_ended| {
                let queue = queue_of_job;
                let pushed = catch_panic(|| match (has_ended, live_state(slot)) {
                    (true, _) => Err(Error::new(Code::Aborted, "s4-node", "to run", "an abort")),
                    (false, model) => {
                        let model = model?;
                        if queue.begin(number) { model.slots_push(id, &queue) } else { Ok(()) }
                    }
                });
                if let Err(error) = pushed
                    && let Some(push) = queue.remove(number)
                {
                    push.refuse(error);
                }
            },
        )
    }
    /// The state of a slot as bytes, for `slotsRestore` and for `streamRestore` of a stream of one sequence; on the handle's own
    /// thread.
    #[napi(ts_return_type = "Promise<Uint8Array>")]
    pub fn slots_save<'env>(&self, env: &'env Env, id: u32, slot: u32) -> napi::Result<Object<'env>> {
        let save = move |model: &mut Option<BoxedModel>| live_state(model)?.slots_save(id, slot as usize);
        self.worker.promise(env, None, save, Bytes)
    }
    /// Sets a slot to a state that was saved, on the handle's own thread; gives its number of time steps.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn slots_restore<'env>(
        &self,
        env: &'env Env,
        id: u32,
        slot: u32,
        state: Uint8Array,
    ) -> napi::Result<Object<'env>> {
        let state = copied_bytes(&state).map_err(to_js)?;
        let restore = move |model: &mut Option<BoxedModel>| {
            let model = live_state(model)?;
            model.slots_restore(id, slot as usize, &state)?;
            model.slots_position(id, slot as usize)
        };
        self.worker.promise(env, None, restore, |position| position as f64)
    }
    /// Frees the slots, after the calls under way.
    #[napi]
    pub fn slots_close(&self, id: u32) -> napi::Result<()> {
        to_js_result(|| {
            self.slot_queues.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            self.worker.enqueue_release(move |m| m.slots_close(id));
            Ok(())
        })
    }
}
