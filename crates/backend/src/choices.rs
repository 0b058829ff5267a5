//! Enumerations whose variants have a name in the API and in checkpoints and a number in CUDA kernels: one list
//! defines all three.

/// Defines a fieldless enum whose variants carry the names of the API. Gives `ALL`, `name`, `code`, `from_name`, and
/// (de)serialisation by name. Codes count from 0 in the order of the list; CUDA kernels see them as
/// `#define ENUM_NAME_VARIANT_NAME code` (crates/cuda/build.rs), so no code is written down twice.
macro_rules! choices {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant),+
        }

        impl $name {
            /// Every variant, in the order of their codes.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name in the API and in checkpoints.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text),+
                }
            }

            /// The number that stands for this variant in CUDA kernels.
            pub const fn code(self) -> i32 {
                self as i32
            }

            /// The variant with this name, `None` where there is none.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|x| x.name() == name)
            }

            /// All names, quoted and separated by commas, for error messages.
            pub fn names() -> String {
                Self::ALL.iter().map(|x| format!("'{}'", x.name())).collect::<Vec<_>>().join(", ")
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(d)?;
                Self::from_name(&name).ok_or_else(|| {
                    serde::de::Error::custom(format!("'{name}' is not one of {}", Self::names()))
                })
            }
        }
    };
}

pub(crate) use choices;

#[cfg(test)]
mod tests {
    use crate::{Activation, Algorithm, LossKind, Pooling};

    #[test]
    fn names_and_codes_go_both_ways() {
        for (i, &x) in Activation::ALL.iter().enumerate() {
            assert_eq!((x.code() as usize, Activation::from_name(x.name())), (i, Some(x)));
        }
        assert_eq!(Algorithm::from_name("cauchy"), Some(Algorithm::Cauchy));
        assert_eq!(LossKind::from_name("crossEntropy"), Some(LossKind::CrossEntropy));
        assert_eq!(Pooling::from_name("none"), None);
        assert!(Pooling::names().starts_with("'mean', 'last'"));
    }
}
