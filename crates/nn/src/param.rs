//! Parameters of a layer, block or model. All values of one group lie in one buffer on the device, of which each parameter
//! is a named part, so that an optimiser goes through few large arrays.

use s4_backend::{Backend, Code, Error, Result, Scalar, host_memory};
use std::{
    collections::HashMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// Group of a parameter in the optimiser: those of the SSM's dynamics (Δ, Λ, P, B) have a learning rate of their own and no
/// weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// All parameters that are not of the SSM's dynamics, C and D among them.
    Main,
    /// The SSM's dynamics: inv_dt, A_real, A_imag, B, P.
    Ssm,
}

impl Group {
    /// Name of the group: `"main"` or `"ssm"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Main => "main",
            Group::Ssm => "ssm",
        }
    }
}

/// Where the elements of one parameter lie in the buffers of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamSlot {
    /// Group whose buffer holds it.
    pub group: Group,
    /// Index of its first element.
    pub offset: usize,
    /// Number of its elements.
    pub len: usize,
}

impl ParamSlot {
    /// Indices of its elements in the group's buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// Name, shape and place of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamInfo {
    /// Name as in the official code's state dicts: `blocks.0.layer.kernel.C`.
    pub name: String,
    /// Shape as in the official code; complex numbers as a last size of 2.
    pub shape: Vec<usize>,
    /// Where its elements lie.
    pub slot: ParamSlot,
    /// Whether it is the table of an embedding.
    pub is_embedding: bool,
}

impl ParamInfo {
    /// Whether it is a bias, of a norm, or an embedding: by its name, or as it was made.
    pub fn is_norm_bias_or_embedding(&self) -> bool {
        let name = self.name.to_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        self.is_embedding || last.ends_with("bias") || name.contains("norm") || name.contains("embedding")
    }
}

/// One number for each element of every parameter (its value, gradient, moment or average), in one buffer for each group.
pub struct GroupBuffers<B: Backend> {
    /// Buffer of [`Group::Main`].
    pub main: B::Buf,
    /// Buffer of [`Group::Ssm`].
    pub ssm: B::Buf,
}

impl<B: Backend> GroupBuffers<B> {
    /// Zeroed buffers of `main` and `ssm` elements.
    pub fn new(be: &B, main: usize, ssm: usize) -> Result<Self> {
        Ok(GroupBuffers { main: be.alloc(main)?, ssm: be.alloc(ssm)? })
    }
    /// The buffer of a group, to be read.
    pub fn buffer_of(&self, group: Group) -> &B::Buf {
        match group {
            Group::Main => &self.main,
            Group::Ssm => &self.ssm,
        }
    }
    /// The buffer of a group, to be written.
    pub fn buffer_of_mut(&mut self, group: Group) -> &mut B::Buf {
        match group {
            Group::Main => &mut self.main,
            Group::Ssm => &mut self.ssm,
        }
    }
    /// The part of one parameter, to be read.
    pub fn view(&self, be: &B, slot: ParamSlot) -> B::Ref<'_> {
        be.view(self.buffer_of(slot.group), slot.range())
    }
    /// View of a group's whole buffer, to be read.
    pub fn group_view(&self, be: &B, group: Group) -> B::Ref<'_> {
        let buf = self.buffer_of(group);
        be.view(buf, 0..be.len(buf))
    }
    /// View of a group's whole buffer, to be written.
    pub fn group_view_mut(&mut self, be: &B, group: Group) -> B::Mut<'_> {
        let buf = self.buffer_of_mut(group);
        let len = be.len(buf);
        be.view_mut(buf, 0..len)
    }
    /// The parts of several different parameters at once, to be written, in the order of `slots`.
    pub fn views_mut<const K: usize>(&mut self, be: &B, slots: [ParamSlot; K]) -> [B::Mut<'_>; K] {
        let mut order: [usize; K] = std::array::from_fn(|i| i);
        order.sort_unstable_by_key(|&i| (slots[i].group, slots[i].offset, slots[i].len));
        let mut views: [Option<B::Mut<'_>>; K] = std::array::from_fn(|_| None);
        let (main_len, ssm_len) = (be.len(&self.main), be.len(&self.ssm));
        let mut unsplit = [
            Some((0, be.view_mut(&mut self.main, 0..main_len))),
            Some((0, be.view_mut(&mut self.ssm, 0..ssm_len))),
        ];
        for i in order {
            let slot = slots[i];
            let unsplit_of_group = &mut unsplit[slot.group as usize];
            if let Some((at, view)) = unsplit_of_group.take() {
                let (_, tail) = be.split_mut(view, slot.offset - at);
                let (this, tail) = be.split_mut(tail, slot.len);
                views[i] = Some(this);
                *unsplit_of_group = Some((slot.offset + slot.len, tail));
            }
        }
        views.map(|x| x.expect("every slot was visited"))
    }
    /// Zeroes the buffers of both groups.
    pub fn zero(&mut self, be: &B) -> Result<()> {
        for group in [Group::Main, Group::Ssm] {
            be.fill(self.group_view_mut(be, group), B::Scalar::zero())?;
        }
        Ok(())
    }
}

use num_traits::Zero;

/// Collects the parameters of a layer, block or model, until the sizes of the buffers are known.
#[derive(Default)]
pub struct ParamBuilder {
    infos: Vec<ParamInfo>,
    initial_values: Vec<Vec<f64>>,
    group_lens: [usize; 2],
}

/// Each parameter starts at a multiple of this many elements in its buffer, so that a device may load several at once.
const ALIGNED_ELEMENTS: usize = 32;

impl ParamBuilder {
    /// Adds a parameter with its initial values, and gives the place that it will have.
    pub fn add(&mut self, name: String, shape: &[usize], group: Group, init: Vec<f64>) -> ParamSlot {
        let end = &mut self.group_lens[group as usize];
        let slot = ParamSlot { group, offset: *end, len: init.len() };
        debug_assert_eq!(shape.iter().product::<usize>(), init.len());
        *end += init.len().next_multiple_of(ALIGNED_ELEMENTS);
        self.infos.push(ParamInfo { name, shape: shape.to_vec(), slot, is_embedding: false });
        self.initial_values.push(init);
        slot
    }

    /// [`ParamBuilder::add`] for the table of an embedding, (vocabulary, features).
    pub fn add_embedding(&mut self, name: String, shape: &[usize], init: Vec<f64>) -> ParamSlot {
        let slot = self.add(name, shape, Group::Main, init);
        if let Some(info) = self.infos.last_mut() {
            info.is_embedding = true;
        }
        slot
    }

    /// Makes the store on the device, with the initial values and zero gradients.
    pub fn build<B: Backend>(self, be: &B) -> Result<ParamStore<B>> {
        let [main, ssm] = self.group_lens;
        let mut store = ParamStore {
            index_by_name: self.infos.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect(),
            values: GroupBuffers::new(be, main, ssm)?,
            grads: GroupBuffers::new(be, main, ssm)?,
            be: be.clone(),
            infos: self.infos,
            version: new_version(),
        };
        for (i, init) in self.initial_values.iter().enumerate() {
            let mut values = host_memory::reserved("s4-node", "initial values", init.len(), init.len())?;
            values.extend(init.iter().map(|&x| B::Scalar::from_f64(x)));
            let slot = store.infos[i].slot;
            be.upload(be.view_mut(store.values.buffer_of_mut(slot.group), slot.range()), &values)?;
        }
        Ok(store)
    }
}

/// A version number that no parameters of this process have had. Backends keep constants computed from parameters by
/// version, and must never take those of other values.
fn new_version() -> u64 {
    static NEXT_VERSION: AtomicU64 = AtomicU64::new(1);
    NEXT_VERSION.fetch_add(1, Ordering::Relaxed)
}

/// All parameters of a layer, block or model, with their gradients.
pub struct ParamStore<B: Backend> {
    be: B,
    infos: Vec<ParamInfo>,
    index_by_name: HashMap<String, usize>,
    /// Values of all parameters.
    pub values: GroupBuffers<B>,
    /// Gradients of all parameters: each backward adds to them.
    pub grads: GroupBuffers<B>,
    /// Version of the values: a new number whenever they change.
    version: u64,
}

impl<B: Backend> ParamStore<B> {
    /// Names, shapes and places of all parameters, in the order in which the forward uses them.
    pub fn infos(&self) -> &[ParamInfo] {
        &self.infos
    }
    /// Number of real numbers that are trained.
    pub fn count(&self) -> usize {
        self.infos.iter().map(|p| p.slot.len).sum()
    }
    /// Version of the values, a new number after each change. Backends keep constants that they have computed from one
    /// version.
    pub fn version(&self) -> u64 {
        self.version
    }
    /// Gives the values a new version: to be called after every change of them.
    pub fn mark_changed(&mut self) {
        self.version = new_version();
    }
    /// Name, shape and place of the parameter of that name; `ERR_S4_VALUE` where there is none.
    pub fn info(&self, name: &str) -> Result<&ParamInfo> {
        self.index_by_name.get(name).map(|&i| &self.infos[i]).ok_or_else(|| {
            Error::new(Code::Value, "parameter", "the name of a parameter", format!("'{name}'"))
        })
    }
    /// A host copy of a parameter's value.
    pub fn get(&self, name: &str) -> Result<Vec<B::Scalar>> {
        self.read_from(&self.values, name)
    }
    /// A host copy of a parameter's accumulated gradient.
    pub fn grad(&self, name: &str) -> Result<Vec<B::Scalar>> {
        self.read_from(&self.grads, name)
    }
    /// A host copy of one parameter's part of `buffers`.
    pub fn read_from(&self, buffers: &GroupBuffers<B>, name: &str) -> Result<Vec<B::Scalar>> {
        let slot = self.info(name)?.slot;
        let mut values = host_memory::zeros("s4-node", "a result", slot.len)?;
        self.be.download(&mut values, buffers.view(&self.be, slot))?;
        Ok(values)
    }
    /// Replaces a parameter's value. `ERR_S4_SHAPE` where it has another number of elements, `ERR_S4_VALUE` on NaN or
    /// infinity.
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
        self.be.upload(self.be.view_mut(self.values.buffer_of_mut(slot.group), slot.range()), value)?;
        self.mark_changed();
        Ok(())
    }
    /// Replaces a parameter's gradient by one that a caller computed. `ERR_S4_SHAPE` where it has another number of elements.
    pub fn set_grad(&mut self, name: &str, grad: &[B::Scalar]) -> Result<()> {
        let slot = self.info(name)?.slot;
        if grad.len() != slot.len {
            return Err(Error::shape("AdamW", format!("{} elements for '{name}'", slot.len), grad.len()));
        }
        self.be.upload(self.be.view_mut(self.grads.buffer_of_mut(slot.group), slot.range()), grad)
    }
    /// Zeroes all gradients.
    pub fn zero_grad(&mut self) -> Result<()> {
        self.grads.zero(&self.be)
    }
    /// New zeroed buffers with one number for each element of every parameter.
    pub fn zeros_like(&self) -> Result<GroupBuffers<B>> {
        GroupBuffers::new(&self.be, self.be.len(&self.values.main), self.be.len(&self.values.ssm))
    }
}
