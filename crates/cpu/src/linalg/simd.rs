//! Choice of the instruction set at run time.
//!
//! Plain loops inside `#[inline(always)]` bodies are compiled once per level by `pulp`, so hot code needs no
//! intrinsics and no `unsafe`. `S4_SIMD=portable|avx2|avx512` forces a level (tests run each).

/// Instruction set of the hot loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target baseline has (SSE2 on x86-64, NEON on aarch64).
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, CD, DQ, VL.
    Avx512,
}

impl Level {
    /// The best level of this machine, or the one that `S4_SIMD` names when the machine has it.
    pub fn detect() -> Level {
        let best = Self::best();
        match std::env::var("S4_SIMD").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => best.min(Level::Avx2),
            _ => best,
        }
    }

    fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            if pulp::x86::V4::is_available() {
                return Level::Avx512;
            }
            if pulp::x86::V3::is_available() {
                return Level::Avx2;
            }
        }
        Level::Portable
    }

    /// Name as `S4_SIMD` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// Runs `op` compiled for this level. `op` and all it calls must be `#[inline(always)]` to profit.
    #[inline]
    pub(crate) fn run<R>(self, op: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        match self {
            Level::Avx512 => {
                if let Some(v4) = pulp::x86::V4::try_new() {
                    return v4.vectorize(op);
                }
            }
            Level::Avx2 => {
                if let Some(v3) = pulp::x86::V3::try_new() {
                    return v3.vectorize(op);
                }
            }
            Level::Portable => {}
        }
        op()
    }

    /// As [`Level::run`], for a body that needs fused products. It is not compiled for the target's baseline, where each of them would be
    /// a call of the C library.
    #[inline]
    pub(crate) fn run_fused<R>(self, op: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        {
            if self == Level::Avx512
                && let Some(v4) = pulp::x86::V4::try_new()
            {
                return v4.vectorize(op);
            }
            if let Some(v3) = pulp::x86::V3::try_new() {
                return v3.vectorize(op);
            }
        }
        let _ = op;
        unreachable!("level {} on a machine without it", self.as_str())
    }

    /// Runs `op` with this level's vectors as a value, for code that names them.
    #[inline]
    pub(crate) fn dispatch<Op: pulp::WithSimd>(self, op: Op) -> Op::Output {
        #[cfg(target_arch = "x86_64")]
        match self {
            Level::Avx512 => {
                if let Some(v4) = pulp::x86::V4::try_new() {
                    return pulp::Simd::vectorize(v4, op);
                }
            }
            Level::Avx2 => {
                if let Some(v3) = pulp::x86::V3::try_new() {
                    return pulp::Simd::vectorize(v3, op);
                }
            }
            Level::Portable => {}
        }
        pulp::Simd::vectorize(pulp::Scalar::new(), op)
    }
}

/// A row of a tile whose place the compiler knows nothing of, so that it keeps it in a register: it would rather add the distance of two rows
/// again for each number that it reads.
#[inline(always)]
pub(crate) fn apart<T>(row: &[T]) -> &[T] {
    std::hint::black_box(row)
}

/// Runs a body at a SIMD level: `FMA` inside it says whether a·b + c is one instruction there.
macro_rules! simd {
    ($level:expr, $fma:ident => $body:expr) => {
        if $level == $crate::linalg::simd::Level::Portable {
            const $fma: bool = cfg!(target_arch = "aarch64");
            $body
        } else {
            const $fma: bool = true;
            $level.run_fused(
                #[inline(always)]
                || $body,
            )
        }
    };
}
pub(crate) use simd;
