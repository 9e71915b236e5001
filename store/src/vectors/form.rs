//! Forms: how the vectors of a collection are compared, and how precisely they are kept.
//!
//! A form is fixed by the first unit that names the collection and never changes: an index is built for one.

use std::fmt;

use half::f16;
use serde::{Deserialize, Serialize};
use telos_graph::{dot, squared_distance};

use crate::error::VectorError;

/// The squared length past which squared distances would overflow.
const SQUARED_LENGTH_MAX: f64 = f32::MAX as f64 / 16.0;

/// How far apart two vectors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// By the angle between them, whatever their lengths: 0.0 the same direction, 1.0 unrelated, 2.0 opposite.
    #[default]
    Cosine,
    /// By the length of what lies between them; 0.0: the same.
    Euclidean,
}

/// How precisely components are kept. Searches see what is kept; in memory each takes four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As they were given: four bytes each.
    #[default]
    Full,
    /// Two bytes each on disk: about three digits, at most 65,504.
    Half,
}

/// What is fixed for all vectors of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionForm {
    /// Components of each vector, 1 to 4,096.
    pub dim: usize,
    /// How they are compared.
    pub metric: Metric,
    /// How they are kept.
    pub precision: Precision,
}

impl CollectionForm {
    /// What the first vector fixes when nobody said otherwise.
    pub fn of_first(dim: usize) -> CollectionForm {
        CollectionForm { dim, metric: Metric::default(), precision: Precision::default() }
    }

    /// Bytes of one vector's components.
    pub(crate) fn bytes(&self) -> usize {
        self.dim * self.precision.bytes()
    }

    /// The components as they are kept.
    ///
    /// # Errors
    /// [`VectorError::NotFinite`] when they cannot be kept or compared.
    pub(crate) fn kept(&self, mut components: Vec<f32>) -> Result<Vec<f32>, VectorError> {
        self.precision.round(&mut components);
        self.place(&components)?;
        Ok(components)
    }

    /// Where kept components lie among others: what the index holds.
    ///
    /// # Errors
    /// [`VectorError::NotFinite`].
    pub(crate) fn place(&self, components: &[f32]) -> Result<Vec<f32>, VectorError> {
        let mut place = self.metric.place(components)?;
        self.precision.round(&mut place);
        Ok(place)
    }

    /// As [`CollectionForm::place`]. What was voted on has a place; a damaged row is kept searchable as the zero vector.
    pub(crate) fn place_or_zeros(&self, components: &[f32]) -> Vec<f32> {
        let mut place = self.place(components).unwrap_or_default();
        place.resize(self.dim, 0.0);
        place
    }
}

impl fmt::Display for CollectionForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dimension {}, {}, {} precision", self.dim, self.metric, self.precision)
    }
}

impl Metric {
    /// Its number in the tables.
    pub(crate) fn number(self) -> u8 {
        match self {
            Metric::Cosine => 0,
            Metric::Euclidean => 1,
        }
    }

    pub(crate) fn of_number(number: u8) -> Option<Metric> {
        [Metric::Cosine, Metric::Euclidean].into_iter().find(|metric| metric.number() == number)
    }

    /// Where components lie: for cosine their direction, of unit length.
    ///
    /// # Errors
    /// [`VectorError::NotFinite`] when a component is NaN or infinite, a cosine vector has no length, or a length is
    /// past what can be compared.
    pub(crate) fn place(self, components: &[f32]) -> Result<Vec<f32>, VectorError> {
        // In f64 the squares of finite f32 neither overflow nor vanish, so tiny and huge vectors keep a direction.
        let squared: f64 = components.iter().map(|component| f64::from(*component).powi(2)).sum();
        match self {
            Metric::Cosine if squared.is_finite() && squared > 0.0 => Ok(scaled(components, squared.sqrt())),
            Metric::Euclidean if squared <= SQUARED_LENGTH_MAX => Ok(components.to_vec()),
            Metric::Cosine | Metric::Euclidean => Err(VectorError::NotFinite),
        }
    }

    /// How far apart two places of one dimension are.
    pub(crate) fn distance(self, left: &[f32], right: &[f32]) -> f32 {
        match self {
            Metric::Cosine => (1.0 - dot(left, right)).clamp(0.0, 2.0),
            Metric::Euclidean => squared_distance(left, right).sqrt(),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Cosine => "cosine",
            Metric::Euclidean => "euclidean",
        })
    }
}

impl Precision {
    /// Its number in the tables.
    pub(crate) fn number(self) -> u8 {
        match self {
            Precision::Full => 0,
            Precision::Half => 1,
        }
    }

    pub(crate) fn of_number(number: u8) -> Option<Precision> {
        [Precision::Full, Precision::Half].into_iter().find(|precision| precision.number() == number)
    }

    /// The components in bytes, little endian.
    pub(crate) fn encode(self, components: &[f32]) -> Vec<u8> {
        match self {
            Precision::Full => components.iter().flat_map(|component| component.to_le_bytes()).collect(),
            Precision::Half => {
                components.iter().flat_map(|component| f16::from_f32(*component).to_le_bytes()).collect()
            }
        }
    }

    /// The components that bytes stand for; a rest that makes none is left out.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Precision::Full => {
                bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            Precision::Half => {
                bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            }
        }
    }

    /// Bytes of one component.
    fn bytes(self) -> usize {
        match self {
            Precision::Full => size_of::<f32>(),
            Precision::Half => size_of::<f16>(),
        }
    }

    fn round(self, components: &mut [f32]) {
        if self == Precision::Half {
            components.iter_mut().for_each(|component| *component = f16::from_f32(*component).to_f32());
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Full => "full",
            Precision::Half => "half",
        })
    }
}

fn scaled(components: &[f32], length: f64) -> Vec<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "components of a unit vector are at most 1")]
    components.iter().map(|component| (f64::from(*component) / length) as f32).collect()
}

#[cfg(test)]
mod tests;
