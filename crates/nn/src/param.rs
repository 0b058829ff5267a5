//! Parameters: one flat buffer a group, named views of it.

use s4_backend::{Backend, Code, Error, Result, Scalar, host_memory};
use std::{
    collections::HashMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// Optimiser group: the SSM's dynamics (Δ, Λ, P, B) have their own learning rate and no weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Everything else, C and D too.
    Main,
    /// inv_dt, A_real, A_imag, B, P.
    Ssm,
}

impl Group {
    /// `"main"` or `"ssm"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Main => "main",
            Group::Ssm => "ssm",
        }
    }
}

/// Where a parameter lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Which flat buffer.
    pub group: Group,
    /// First element.
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

impl Slot {
    /// Elements of the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// One named parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamInfo {
    /// Official style: `blocks.0.layer.kernel.C`.
    pub name: String,
    /// Official shape; complex numbers as a trailing 2.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub slot: Slot,
}

/// Two flat buffers with the parameters' layout: values, gradients, moments or an average.
pub struct Flats<B: Backend> {
    /// Group [`Group::Main`].
    pub main: B::Buf,
    /// Group [`Group::Ssm`].
    pub ssm: B::Buf,
}

impl<B: Backend> Flats<B> {
    /// Zeroed buffers of these lengths.
    pub fn new(be: &B, main: usize, ssm: usize) -> Result<Self> {
        Ok(Flats { main: be.alloc(main)?, ssm: be.alloc(ssm)? })
    }
    /// The buffer of a group.
    pub fn buf(&self, group: Group) -> &B::Buf {
        match group {
            Group::Main => &self.main,
            Group::Ssm => &self.ssm,
        }
    }
    /// The buffer of a group.
    pub fn buf_mut(&mut self, group: Group) -> &mut B::Buf {
        match group {
            Group::Main => &mut self.main,
            Group::Ssm => &mut self.ssm,
        }
    }
    /// View of one parameter.
    pub fn view(&self, be: &B, slot: Slot) -> B::Ref<'_> {
        be.view(self.buf(slot.group), slot.range())
    }
    /// Whole buffer of a group.
    pub fn all(&self, be: &B, group: Group) -> B::Ref<'_> {
        let buf = self.buf(group);
        be.view(buf, 0..be.len(buf))
    }
    /// Whole buffer of a group.
    pub fn all_mut(&mut self, be: &B, group: Group) -> B::Mut<'_> {
        let buf = self.buf_mut(group);
        let len = be.len(buf);
        be.view_mut(buf, 0..len)
    }
    /// Exclusive views of several disjoint parameters at once, in the order asked.
    pub fn views_mut<const K: usize>(&mut self, be: &B, slots: [Slot; K]) -> [B::Mut<'_>; K] {
        let mut order: [usize; K] = std::array::from_fn(|i| i);
        order.sort_unstable_by_key(|&i| (slots[i].group, slots[i].offset, slots[i].len));
        let mut out: [Option<B::Mut<'_>>; K] = std::array::from_fn(|_| None);
        let (main_len, ssm_len) = (be.len(&self.main), be.len(&self.ssm));
        let mut rest = [
            Some((0, be.view_mut(&mut self.main, 0..main_len))),
            Some((0, be.view_mut(&mut self.ssm, 0..ssm_len))),
        ];
        for i in order {
            let slot = slots[i];
            let remaining = &mut rest[slot.group as usize];
            if let Some((at, view)) = remaining.take() {
                let (_, tail) = be.split_mut(view, slot.offset - at);
                let (this, tail) = be.split_mut(tail, slot.len);
                out[i] = Some(this);
                *remaining = Some((slot.offset + slot.len, tail));
            }
        }
        out.map(|x| x.expect("every slot was visited"))
    }
    /// Zeroes both buffers.
    pub fn zero(&mut self, be: &B) -> Result<()> {
        for group in [Group::Main, Group::Ssm] {
            be.fill(self.all_mut(be, group), B::Scalar::zero())?;
        }
        Ok(())
    }
}

use num_traits::Zero;

/// Collects parameters before their buffers exist.
#[derive(Default)]
pub struct ParamBuilder {
    infos: Vec<ParamInfo>,
    init: Vec<Vec<f64>>,
    ends: [usize; 2],
}

/// Parameters start at multiples of this many elements, so that a device may use wide loads.
const ALIGN: usize = 32;

impl ParamBuilder {
    /// Adds a parameter with its initial values.
    pub fn add(&mut self, name: String, shape: &[usize], group: Group, init: Vec<f64>) -> Slot {
        let end = &mut self.ends[group as usize];
        let slot = Slot { group, offset: *end, len: init.len() };
        debug_assert_eq!(shape.iter().product::<usize>(), init.len());
        *end += init.len().next_multiple_of(ALIGN);
        self.infos.push(ParamInfo { name, shape: shape.to_vec(), slot });
        self.init.push(init);
        slot
    }

    /// The store.
    pub fn build<B: Backend>(self, be: &B) -> Result<ParamStore<B>> {
        let [main, ssm] = self.ends;
        let mut store = ParamStore {
            index: self.infos.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect(),
            values: Flats::new(be, main, ssm)?,
            grads: Flats::new(be, main, ssm)?,
            be: be.clone(),
            infos: self.infos,
            version: new_version(),
        };
        for (i, init) in self.init.iter().enumerate() {
            let values: Vec<B::Scalar> = init.iter().map(|&x| B::Scalar::from_f64(x)).collect();
            let slot = store.infos[i].slot;
            be.upload(be.view_mut(store.values.buf_mut(slot.group), slot.range()), &values)?;
        }
        Ok(store)
    }
}

/// A version that no other store of this process has or had, so that constants kept for one are never used for another.
fn new_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// All parameters of a layer, block or model, with their gradients.
pub struct ParamStore<B: Backend> {
    be: B,
    infos: Vec<ParamInfo>,
    index: HashMap<String, usize>,
    /// Values.
    pub values: Flats<B>,
    /// Gradients, accumulated.
    pub grads: Flats<B>,
    version: u64,
}

impl<B: Backend> ParamStore<B> {
    /// Names, shapes, groups, in the order of the forward pass.
    pub fn infos(&self) -> &[ParamInfo] {
        &self.infos
    }
    /// Number of trained reals.
    pub fn count(&self) -> usize {
        self.infos.iter().map(|p| p.slot.len).sum()
    }
    /// Changes at each update; plans keep what belongs to one version.
    pub fn version(&self) -> u64 {
        self.version
    }
    /// Says that values changed.
    pub fn touch(&mut self) {
        self.version = new_version();
    }
    /// The parameter of that name.
    pub fn info(&self, name: &str) -> Result<&ParamInfo> {
        self.index.get(name).map(|&i| &self.infos[i]).ok_or_else(|| {
            Error::new(Code::Value, "parameter", "the name of a parameter", format!("'{name}'"))
        })
    }
    /// Value of a parameter.
    pub fn get(&self, name: &str) -> Result<Vec<B::Scalar>> {
        self.read(&self.values, name)
    }
    /// Accumulated gradient of a parameter.
    pub fn grad(&self, name: &str) -> Result<Vec<B::Scalar>> {
        self.read(&self.grads, name)
    }
    /// One parameter's part of flat buffers.
    pub fn read(&self, flats: &Flats<B>, name: &str) -> Result<Vec<B::Scalar>> {
        let slot = self.info(name)?.slot;
        let mut out = host_memory::zeros("s4-node", "a result", slot.len)?;
        self.be.download(&mut out, flats.view(&self.be, slot))?;
        Ok(out)
    }
    /// Replaces a value. `ERR_S4_SHAPE` on another length, `ERR_S4_VALUE` on NaN or Inf.
    pub fn set(&mut self, name: &str, value: &[B::Scalar]) -> Result<()> {
        let info = self.info(name)?;
        if value.len() != info.slot.len {
            return Err(Error::shape(
                "setParameter",
                format!("{} elements {:?} for '{name}'", info.slot.len, info.shape),
                value.len(),
            ));
        }
        crate::check::finite("setParameter", name, value)?;
        let slot = info.slot;
        self.be.upload(self.be.view_mut(self.values.buf_mut(slot.group), slot.range()), value)?;
        self.touch();
        Ok(())
    }
    /// Zeroes all gradients.
    pub fn zero_grad(&mut self) -> Result<()> {
        self.grads.zero(&self.be)
    }
    /// New zeroed buffers of the parameters' layout.
    pub fn like(&self) -> Result<Flats<B>> {
        Flats::new(&self.be, self.be.len(&self.values.main), self.be.len(&self.values.ssm))
    }
}
