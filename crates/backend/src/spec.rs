//! The description of an SSM layer: mode, sizes, parameter transforms; and from these the lengths of its arrays.

use crate::{Error, Result, choices::choices};

choices! {
    /// The structure of an SSM's state matrix A.
    pub enum Mode {
        /// Diagonal plus low rank (S4): A = diag(Λ) − P P*.
        S4 = "s4",
        /// Diagonal (S4D): A = diag(Λ).
        S4d = "s4d",
    }
}

choices! {
    /// How Ā and B̄ come from A, B and Δ. S4 is always bilinear.
    pub enum Discretization {
        /// Ā = (I − ΔA/2)⁻¹(I + ΔA/2), B̄ = (I − ΔA/2)⁻¹ΔB.
        Bilinear = "bilinear",
        /// Zero-order hold: Ā = e^{ΔΛ}, B̄ = B·expm1(ΔΛ)/Λ.
        Zoh = "zoh",
    }
}

choices! {
    /// How a stored parameter x, which training may move anywhere, becomes the number that the SSM uses: f, g and t in
    /// the table of `crates/ssm/src/lib.rs`. All but `None` give positive numbers.
    pub enum Transform {
        /// The exponential, eˣ
        Exp = "exp",
        /// Softplus, log(1 + eˣ)
        Softplus = "softplus",
        /// ReLU with a lower bound, max(x, 0) + 1e-4
        Relu = "relu",
        /// The logistic function, 1/(1 + e⁻ˣ)
        Sigmoid = "sigmoid",
        /// The stored parameter itself, x
        None = "none",
    }
}

impl Transform {
    /// The number that the stored parameter x stands for.
    pub fn transformed(self, x: f64) -> f64 {
        match self {
            Transform::Exp => x.exp(),
            Transform::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Transform::Relu => x.max(0.0) + 1e-4,
            Transform::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Transform::None => x,
        }
    }

    /// The derivative of [`Transform::transformed`] at the stored parameter x.
    pub fn derivative(self, x: f64) -> f64 {
        match self {
            Transform::Exp => x.exp(),
            Transform::Softplus => 1.0 / (1.0 + (-x).exp()),
            Transform::Relu => {
                if x > 0.0 {
                    1.0
                } else {
                    0.0
                }
            }
            Transform::Sigmoid => {
                let s = 1.0 / (1.0 + (-x).exp());
                s * (1.0 - s)
            }
            Transform::None => 1.0,
        }
    }

    /// The stored parameter that stands for y, with which a layer is initialised; y must be in the transform's range.
    pub fn inverse(self, y: f64) -> f64 {
        match self {
            Transform::Exp => y.ln(),
            Transform::Softplus => y + (-(-y).exp_m1()).ln(),
            Transform::Relu => y - 1e-4,
            Transform::Sigmoid => (y / (1.0 - y)).ln(),
            Transform::None => y,
        }
    }
}

/// The description of one SSM layer: everything that determines which arrays it has and what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SsmSpec {
    /// S4 or S4D.
    pub mode: Mode,
    /// H: features of the input.
    pub heads: usize,
    /// N: real size of a state, even; N/2 conjugate pairs are stored.
    pub state: usize,
    /// S: independent (Λ, P, B); head h uses SSM h mod S. Divides `heads`.
    pub n_ssm: usize,
    /// R: rank of P; 0 for S4D.
    pub rank: usize,
    /// Output channels per head; channel c of head h is feature c·H + h of the output.
    pub channels: usize,
    /// Whether outputs depend on later inputs as well: each head then has 2·channels rows of C and kernels, the causal
    /// ones first.
    pub bidirectional: bool,
    /// Whether Δ has shape (H, N/2), one for each conjugate pair, instead of (H).
    pub dt_per_state: bool,
    /// How Ā and B̄ are computed.
    pub discretization: Discretization,
    /// t: Δ = t(inv_dt)·rate.
    pub dt_transform: Transform,
    /// f: Re Λ = −f(a_real).
    pub real_transform: Transform,
    /// g: Im Λ = −g(a_imag).
    pub imag_transform: Transform,
    /// Samples to which the kernel is cut; `None` for as many as the sequences have.
    pub truncate: Option<usize>,
}

impl SsmSpec {
    /// N/2: conjugate pairs of a state.
    pub fn pairs(&self) -> usize {
        self.state / 2
    }
    /// Rows of C, and kernels, per head: channels, doubled when bidirectional.
    pub fn kernel_channels(&self) -> usize {
        self.channels * if self.bidirectional { 2 } else { 1 }
    }
    /// Features of the output: channels·H.
    pub fn outputs(&self) -> usize {
        self.channels * self.heads
    }
    /// Elements of `inv_dt`: (H) or (H, N/2).
    pub fn inv_dt_len(&self) -> usize {
        self.heads * if self.dt_per_state { self.pairs() } else { 1 }
    }
    /// Elements of `a_real` and of `a_imag`: (S, N/2).
    pub fn a_len(&self) -> usize {
        self.n_ssm * self.pairs()
    }
    /// Elements of `b`: (S, N/2, 2).
    pub fn b_len(&self) -> usize {
        2 * self.a_len()
    }
    /// Elements of `p`: (R, S, N/2, 2).
    pub fn p_len(&self) -> usize {
        self.rank * self.b_len()
    }
    /// Elements of `c`: (kernel channels, H, N/2, 2).
    pub fn c_len(&self) -> usize {
        self.kernel_channels() * self.heads * self.state
    }
    /// Elements of `d`: (channels, H).
    pub fn d_len(&self) -> usize {
        self.outputs()
    }
    /// Causal with an untruncated kernel: the only layers whose recurrence has a state of N numbers.
    pub fn has_state(&self) -> bool {
        !self.bidirectional && self.truncate.is_none()
    }
    /// Elements of a state: (batch, H, 2, N/2).
    pub fn state_len(&self, batch: usize) -> usize {
        batch * self.heads * self.state
    }

    /// Refuses sizes and combinations of options that no backend implements: `ERR_S4_VALUE`.
    pub fn check(&self, op: &'static str) -> Result<()> {
        let refuse = |expected: &str, got: String| Err(Error::value(op, expected, got));
        if self.heads == 0 || self.heads > 1 << 20 {
            return refuse("1 to 2^20 features", self.heads.to_string());
        }
        if self.state == 0 || !self.state.is_multiple_of(2) || self.state > 4096 {
            return refuse("an even state size from 2 to 4096", self.state.to_string());
        }
        if self.n_ssm == 0 || !self.heads.is_multiple_of(self.n_ssm) {
            return refuse(
                "nSsm that divides the number of features",
                format!("{} for {}", self.n_ssm, self.heads),
            );
        }
        if self.channels == 0 || self.channels > 1024 {
            return refuse("1 to 1024 channels", self.channels.to_string());
        }
        match self.mode {
            Mode::S4 if self.rank == 0 || self.rank > 8 => refuse("rank 1 to 8", self.rank.to_string()),
            Mode::S4 if self.discretization != Discretization::Bilinear => {
                refuse("bilinear discretization with mode 's4'", "zoh".into())
            }
            Mode::S4d if self.rank != 0 => refuse("no P with mode 's4d'", format!("rank {}", self.rank)),
            _ if self.truncate == Some(0) => refuse("truncate of 1 or more", "0".into()),
            _ => Ok(()),
        }
    }
}
