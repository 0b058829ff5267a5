//! The initialisations by name: the modes that each is for, what it needs, and where Λ, P and B start.

use s4_backend::{Error, Mode, Result, SsmSpec, random::Rng};
use s4_ssm::{DiagonalInit, HIPPO_MEASURES, InitialSsm, Measure, combined_ssms, diagonal_ssm, random_ssm};
use serde::{Deserialize, Serialize};

/// How Λ, P, B start (`s4_ssm::nplr_ssm`, `s4_ssm::diagonal_ssm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Init {
    #[default]
    Legs,
    Legt,
    Fourier,
    /// LegS for the first half of the SSMs, Fourier for the second.
    Hippo,
    Lin,
    Inv,
    Real,
    /// Random Λ (and P), the control of the paper's ablation; every SSM draws its own.
    Random,
}

/// An initialisation's names, each with the modes that it is for.
const MODES: [(&str, Init, &[Mode]); 8] = [
    ("legs", Init::Legs, &[Mode::S4, Mode::S4d]),
    ("legt", Init::Legt, &[Mode::S4]),
    ("fourier", Init::Fourier, &[Mode::S4]),
    ("hippo", Init::Hippo, &[Mode::S4]),
    ("lin", Init::Lin, &[Mode::S4d]),
    ("inv", Init::Inv, &[Mode::S4d]),
    ("real", Init::Real, &[Mode::S4d]),
    ("random", Init::Random, &[Mode::S4, Mode::S4d]),
];

impl Init {
    /// Rank of P where none is asked for.
    pub fn default_rank(self) -> usize {
        if self == Init::Legt { 2 } else { 1 }
    }

    /// Refuses another mode's initialisation, and sizes that it cannot start.
    pub fn check(self, op: &'static str, spec: &SsmSpec) -> Result<()> {
        let of = |mode: Mode| MODES.iter().filter(move |(.., modes)| modes.contains(&mode));
        if of(spec.mode).all(|(_, init, _)| *init != self) {
            let names: Vec<String> = of(spec.mode).map(|(name, ..)| format!("'{name}'")).collect();
            let got = MODES.iter().find(|(_, init, _)| *init == self).map_or("", |(name, ..)| name);
            let expected = format!("init {} with mode '{}'", names.join(", "), spec.mode);
            return Err(Error::value(op, expected, format!("'{got}'")));
        }
        match self {
            Init::Hippo if spec.n_ssm % 2 != 0 => {
                Err(Error::value(op, "an even nSsm with init 'hippo'", spec.n_ssm))
            }
            Init::Legt if spec.rank < 2 => {
                Err(Error::value(op, "rank 2 or more with init 'legt'", spec.rank))
            }
            _ => Ok(()),
        }
    }

    /// Λ, P and B of each SSM; what is random is drawn from `rng`.
    pub(crate) fn starts(self, spec: &SsmSpec, rng: &mut Rng) -> Vec<InitialSsm> {
        let (n, s) = (spec.state, spec.n_ssm);
        let each = |kind| vec![diagonal_ssm(kind, n); s];
        let of = |measures: &[Measure]| combined_ssms(measures, n, s, spec.rank);
        match self {
            Init::Legs if spec.mode == Mode::S4d => each(DiagonalInit::LegS),
            Init::Lin => each(DiagonalInit::Lin),
            Init::Inv => each(DiagonalInit::Inv),
            Init::Real => each(DiagonalInit::Real),
            Init::Legs => of(&[Measure::LegS]),
            Init::Legt => of(&[Measure::LegT]),
            Init::Fourier => of(&[Measure::Fourier]),
            Init::Hippo => of(&HIPPO_MEASURES),
            Init::Random => (0..s).map(|_| random_ssm(n, spec.rank, || rng.normal())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_initialisation_stands_in_the_table_under_its_json_name() {
        for (name, init, modes) in MODES {
            assert_eq!(serde_json::to_string(&init).ok(), Some(format!("\"{name}\"")));
            assert!(!modes.is_empty());
        }
    }
}
