//! The initialisations of the SSM by name: the modes that each is for, the sizes that each needs, and its Λ, P and B.

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
    /// The first half of the layer's SSMs starts as LegS, the second half as Fourier.
    Hippo,
    Lin,
    Inv,
    Real,
    /// Random Λ, and in S4 random P too: the control of the paper's ablation. Every SSM draws its own.
    Random,
}

/// The initialisations: the name of each in JSON, and the modes that it is for.
const INITIALIZATIONS: [(&str, Init, &[Mode]); 8] = [
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
    /// Rank of P where the options name none.
    pub fn default_rank(self) -> usize {
        if self == Init::Legt { 2 } else { 1 }
    }

    /// `ERR_S4_VALUE` where this initialisation is not one of the layer's mode, or cannot start a layer of its sizes.
    pub fn check(self, op: &'static str, spec: &SsmSpec) -> Result<()> {
        let entries_of = |mode: Mode| INITIALIZATIONS.iter().filter(move |(.., modes)| modes.contains(&mode));
        if entries_of(spec.mode).all(|(_, init, _)| *init != self) {
            let names: Vec<String> = entries_of(spec.mode).map(|(name, ..)| format!("'{name}'")).collect();
            let got = INITIALIZATIONS.iter().find(|(_, init, _)| *init == self).map_or("", |(name, ..)| name);
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

    /// Initial Λ, P and B of each SSM of a layer. What is random is drawn from `rng`.
    pub(crate) fn starts(self, spec: &SsmSpec, rng: &mut Rng) -> Vec<InitialSsm> {
        let (n, s) = (spec.state, spec.n_ssm);
        let repeated = |kind| vec![diagonal_ssm(kind, n); s];
        let combined = |measures: &[Measure]| combined_ssms(measures, n, s, spec.rank);
        match self {
            Init::Legs if spec.mode == Mode::S4d => repeated(DiagonalInit::LegS),
            Init::Lin => repeated(DiagonalInit::Lin),
            Init::Inv => repeated(DiagonalInit::Inv),
            Init::Real => repeated(DiagonalInit::Real),
            Init::Legs => combined(&[Measure::LegS]),
            Init::Legt => combined(&[Measure::LegT]),
            Init::Fourier => combined(&[Measure::Fourier]),
            Init::Hippo => combined(&HIPPO_MEASURES),
            Init::Random => (0..s).map(|_| random_ssm(n, spec.rank, || rng.normal())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_initialisation_stands_in_the_table_under_its_json_name() {
        for (name, init, modes) in INITIALIZATIONS {
            assert_eq!(serde_json::to_string(&init).ok(), Some(format!("\"{name}\"")));
            assert!(!modes.is_empty());
        }
    }
}
