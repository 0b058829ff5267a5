//! How exactly products are computed.

use s4_backend::{Error, Result};

/// Precision of matrix products on the tensor cores. Sums and everything that is not a product stay f32; what goes on from state to
/// state is always multiplied in split form (high and low part, three products), as good as f32, since its rounding would add up. Below
/// [`Precision::Highest`] what an input adds to a state, what a state gives to an output, and the states in the gradients' products are
/// of one 16-bit number each: numbers 2³⁹ times smaller than the largest of a head count as zero there. On chips of compute capability
/// 7.5, and for states above 64, every product is [`Precision::Highest`].
/// On Hopper [`Precision::Highest`] holds each operand of a mix with GLU in 22 bits relative to its largest finite number: a number 2⁻⁹ of
/// that keeps them all, and smaller ones have an absolute error of 2⁻³¹ of the largest or less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As good as f32: outputs within 1e-5, gradients within 1e-4.
    #[default]
    Highest,
    /// As good as TF32: outputs within 2e-3, gradients within 5e-3.
    High,
    /// As good as bf16: outputs within 1e-2, gradients within 5e-2.
    Bf16,
}

impl std::str::FromStr for Precision {
    type Err = Error;

    /// `"highest"`, `"high"` or `"bf16"`; else `ERR_S4_VALUE`.
    fn from_str(s: &str) -> Result<Precision> {
        match s {
            "highest" => Ok(Precision::Highest),
            "high" => Ok(Precision::High),
            "bf16" => Ok(Precision::Bf16),
            other => Err(Error::value("precision", "'highest', 'high' or 'bf16'", format!("'{other}'"))),
        }
    }
}

impl Precision {
    /// Products of 16-bit numbers that make one product of f32: 3 (high·high, high·low, low·high), or high·high alone.
    pub(crate) fn products(self) -> usize {
        if self == Precision::Highest { 3 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::Precision;

    #[test]
    fn names_are_read_and_others_refused() {
        assert_eq!("high".parse::<Precision>().unwrap(), Precision::High);
        assert_eq!("highest".parse::<Precision>().unwrap(), Precision::default());
        assert_eq!("bf16".parse::<Precision>().unwrap(), Precision::Bf16);
        let e = "fp8".parse::<Precision>().unwrap_err().to_string();
        assert!(e.contains("'fp8'"), "{e}");
    }
}
