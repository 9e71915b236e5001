//! One edition, opened: searches read what they need of its files, and check what they read.

use std::path::Path;

use crate::codes::Codes;
use crate::directions::{Directions, Places, distance};
use crate::error::{OpenError, ReadError};
use crate::manifest::{CODEBOOK, CODES, ENTRIES, Engine, GRAPH, METADATA, Manifest, TWINS, VECTORS};
use crate::nearest::{Found, Nearest};
use crate::rows::{Entry, RowFiles};
use crate::sealed::Sealed;
use crate::twins::Twins;
use crate::walk::walk;
use crate::{EFFORT_MAX, Verify};

/// An edition that is open. Any number of threads may ask it at once; nothing in it changes.
///
/// In memory are the codes, a byte for each four components mostly, 8 bytes for each 4,096 on disk, and 8 for each row
/// when some share a direction.
pub struct Edition {
    manifest: Manifest,
    rows: RowFiles,
    twins: Twins,
    directions: Directions,
    /// Of the graph, with where walks begin.
    codes: Option<(Codes, u32)>,
}

/// Opens an edition.
///
/// The manifest, the length of each file, and what is held in memory are always verified; [`Verify::Full`] reads all
/// else too. Whatever was not is verified when a search meets it.
///
/// # Errors
/// [`OpenError::Unfinished`] when the directory has no manifest; the others say which file is not as it was written.
pub fn open(directory: &Path, verify: Verify) -> Result<Edition, OpenError> {
    Edition::open(directory, Manifest::read(directory)?, verify)
}

impl Edition {
    pub(crate) fn open(directory: &Path, manifest: Manifest, verify: Verify) -> Result<Edition, OpenError> {
        let file = |name: &str| {
            let seal = manifest.files.get(name).ok_or_else(|| OpenError::Manifest {
                path: directory.into(),
                problem: format!("does not name {name}"),
            })?;
            Sealed::open(directory.join(name), seal, verify)
        };
        let (dim, count) = (manifest.dim, manifest.directions);
        let rows = RowFiles { entries: file(ENTRIES)?, metadata: file(METADATA)?, count: manifest.rows };
        let twins = if count < manifest.rows {
            Twins::read(&file(TWINS)?, count, manifest.rows)?
        } else {
            Twins::None
        };
        let (directions, codes) = match &manifest.engine {
            Engine::Flat => (Directions::new(file(VECTORS)?, dim, count, 0, Places::in_vectors(dim)), None),
            Engine::DiskAnn { degree, entry, pieces, .. } => {
                let codes = Codes::read(&file(CODEBOOK)?, &file(CODES)?, dim, *pieces)?;
                let places = Places::in_graph(dim, *degree);
                (Directions::new(file(GRAPH)?, dim, count, *degree, places), Some((codes, *entry)))
            }
        };
        Ok(Edition { manifest, rows, twins, directions, codes })
    }

    /// What it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let codes = self.codes.as_ref().map_or(0, |(codes, _)| codes.held());
        size_of::<Edition>() + self.rows.held() + self.twins.held() + self.directions.held() + codes
    }

    /// Rows near a direction with their cosine distances, closest first: mostly those of the nearest `effort`
    /// directions, and all rows in each, which may be many.
    ///
    /// `direction`: as many finite components as the edition has, of unit length. `effort`: 1 to [`EFFORT_MAX`], beyond
    /// which it is taken for that; [`Recall::effort`](crate::Recall) of the manifest was found to be enough. Cost: about
    /// `effort` reads of a sector one after the other, or of the whole file when there is no graph.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when a bit flipped in what the search met.
    pub fn near(&self, direction: &[f32], effort: usize) -> Result<Vec<(u32, f32)>, ReadError> {
        let found = self.near_directions(direction, effort)?;
        let rows = |found: Found| self.twins.rows_of(found.number).map(move |row| (row, found.distance));
        Ok(found.into_iter().flat_map(rows).collect())
    }

    pub(crate) fn near_directions(&self, direction: &[f32], effort: usize) -> Result<Vec<Found>, ReadError> {
        self.check(direction)?;
        let effort = effort.clamp(1, EFFORT_MAX);
        if let Some((codes, entry)) = &self.codes {
            return walk(&self.directions, codes, *entry, direction, effort);
        }
        let mut nearest = Nearest::new(effort);
        self.each_direction(|number, components| {
            nearest.offer(distance(direction, components), number);
            Ok::<(), ReadError>(())
        })?;
        Ok(nearest.into_sorted())
    }

    /// The `k` rows nearest to a direction among those that are shown, with their cosine distances, closest first;
    /// exact. `is_shown` is asked of rows that are among the nearest so far. Cost: reads every direction, in little
    /// memory.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged block anywhere among the directions is in its way. The first one of `is_shown` ends it.
    pub fn scan(
        &self,
        direction: &[f32],
        k: usize,
        is_shown: &dyn Fn(u32) -> Result<bool, ReadError>,
    ) -> Result<Vec<(u32, f32)>, ReadError> {
        self.check(direction)?;
        let mut nearest = Nearest::new(k);
        self.each_direction(|number, components| {
            let distance = distance(direction, components);
            for row in self.twins.rows_of(number) {
                if nearest.wants(distance, row) && is_shown(row)? {
                    nearest.offer(distance, row);
                }
            }
            Ok::<(), ReadError>(())
        })?;
        Ok(nearest.into_sorted().into_iter().map(|found| (found.number, found.distance)).collect())
    }

    /// Hands out every distinct direction as bytes, in order of their numbers.
    pub(crate) fn each_direction<E: From<ReadError>>(
        &self,
        with: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.directions.each(with)
    }

    /// Whose a row is. Cost: two reads.
    ///
    /// # Errors
    /// [`ReadError::NoRow`] past the last one.
    pub fn row(&self, number: u32) -> Result<Entry, ReadError> {
        self.rows.entry(number)
    }

    /// The direction of a row. Cost: two reads.
    ///
    /// # Errors
    /// [`ReadError::NoRow`] past the last one.
    pub fn direction(&self, number: u32) -> Result<Vec<f32>, ReadError> {
        let direction = self.rows.place(number)?.direction;
        let mut buffer = Vec::new();
        let (components, _) = self.directions.node(direction, &mut buffer)?;
        Ok(crate::directions::components(components).collect())
    }

    /// The row of an object; none when it has none. Cost: as many reads of a block as the count of rows has binary
    /// digits.
    ///
    /// # Errors
    /// [`ReadError`] when what it met cannot be read.
    pub fn find(&self, object: u128) -> Result<Option<u32>, ReadError> {
        self.rows.find(object)
    }

    /// Objects, and what each row was added with, in the order of rows: ascending. Ends after an error. Cost: 40 bytes
    /// read a row, in little memory.
    pub fn objects(&self) -> impl Iterator<Item = Result<(u128, u64), ReadError>> + '_ {
        self.rows.places().map(|place| place.map(|place| (place.object, place.added)))
    }

    fn check(&self, direction: &[f32]) -> Result<(), ReadError> {
        if direction.len() != self.manifest.dim {
            return Err(ReadError::Dimension { found: direction.len(), dim: self.manifest.dim });
        }
        if direction.iter().all(|component| component.is_finite()) {
            Ok(())
        } else {
            Err(ReadError::NotFinite)
        }
    }
}
