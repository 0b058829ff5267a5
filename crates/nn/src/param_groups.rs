//! Parameters chosen by name, with learning rate and decay of their own, or frozen.

use crate::param::{Group, ParamInfo, ParamStore};
use s4_backend::{Backend, Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Options of the optimiser for the parameters of some names, in place of the options for all parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParamGroup {
    /// A name, in which `*` stands for any characters: `blocks.*.layer.kernel.inv_dt`. Where a store has a prefix, names with it and
    /// names without it are looked for.
    pub name: String,
    /// Learning rate.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Decoupled decay.
    #[serde(default)]
    pub weight_decay: Option<f64>,
    /// They stay as they are, and their gradients count in no norm.
    #[serde(default)]
    pub freeze: bool,
}

impl ParamGroup {
    /// Refuses impossible values.
    pub fn check(&self, op: &'static str) -> Result<()> {
        for (what, x) in [("lr", self.lr), ("weightDecay", self.weight_decay)] {
            if x.is_some_and(|x| !(x.is_finite() && x >= 0.0)) {
                let expected = format!("{what} of 0 or more for the group '{}'", self.name);
                return Err(Error::value(op, expected, x.unwrap_or_default()));
            }
        }
        Ok(())
    }
}

/// Consecutive elements of one flat buffer that share their rates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    pub group: Group,
    pub range: Range<usize>,
    pub lr: f64,
    pub weight_decay: f64,
}

/// The elements of a store that an optimiser updates.
pub(crate) struct Segments {
    /// All that are not frozen, in the order of the buffers.
    pub segments: Vec<Segment>,
    /// Of each group, whether it names a parameter.
    pub used_groups: Vec<bool>,
}

impl Segments {
    /// The segments; `ERR_S4_VALUE` where a group names no parameter.
    pub fn of_used_groups(self, op: &'static str, groups: &[ParamGroup]) -> Result<Vec<Segment>> {
        match self.used_groups.iter().position(|used| !used) {
            Some(i) => Err(Error::value(op, "groups that name parameters", format!("'{}'", groups[i].name))),
            None => Ok(self.segments),
        }
    }
}

/// Which elements share their rates. `prefix`: what may stand before a parameter's name in a group's. `rates`: learning rate and decay of
/// what no group names.
pub(crate) fn segments<B: Backend>(
    store: &ParamStore<B>,
    prefix: &str,
    groups: &[ParamGroup],
    rates: impl Fn(&ParamInfo) -> (f64, f64),
) -> Segments {
    let mut used = vec![false; groups.len()];
    let mut out: Vec<Segment> = Vec::new();
    // Whether the parameter before was, which ends a segment.
    let mut frozen = false;
    let mut infos: Vec<_> = store.infos().iter().collect();
    infos.sort_by_key(|info| (info.slot.group, info.slot.offset));
    for info in infos {
        let slot = info.slot;
        let (mut lr, mut weight_decay) = rates(info);
        let (mut first, mut freeze) = (true, false);
        for (group, used) in groups.iter().zip(&mut used) {
            let is_named = |name: &str| matches(&group.name, name);
            if is_named(&info.name) || !prefix.is_empty() && is_named(&format!("{prefix}{}", info.name)) {
                *used = true;
                if std::mem::take(&mut first) {
                    lr = group.lr.unwrap_or(lr);
                    weight_decay = group.weight_decay.unwrap_or(weight_decay);
                    freeze = group.freeze;
                }
            }
        }
        let after_frozen = std::mem::replace(&mut frozen, freeze);
        if freeze {
            continue;
        }
        match out.last_mut() {
            Some(last)
                if !after_frozen
                    && (last.group, last.lr, last.weight_decay) == (slot.group, lr, weight_decay) =>
            {
                last.range.end = slot.range().end;
            }
            _ => out.push(Segment { group: slot.group, range: slot.range(), lr, weight_decay }),
        }
    }
    Segments { segments: out, used_groups: used }
}

/// Whether `name` is what `pattern` says, `*` standing for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name, want) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "", true),
            ("*.C", "blocks.0.layer.kernel.C", true),
            ("*.C", "blocks.0.layer.kernel.C.x", false),
            ("blocks.*.layer.*.B", "blocks.11.layer.kernel.B", true),
            ("blocks.*", "decoder.weight", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
