//! References: how many rows name each blob, counted in the commit that writes or removes those rows.
//!
//! A blob with a row here is never collected; a blob without one is collected once no unit may still name it.
//! Today releases name blobs; whatever else comes to name one counts itself here and in `verify`.

use redb::ReadableTable;

use crate::error::Failure;
use crate::id::Digest;
use crate::tables::Tables;

/// Counts one more row that names a blob.
pub(crate) fn add(tables: &mut Tables<'_>, digest: &Digest) -> Result<(), Failure> {
    let before = count(tables, digest)?;
    tables.blobs.open()?.insert(digest.as_bytes(), before + 1)?;
    Ok(())
}

/// Counts one row less; the last one takes the blob's row with it.
pub(crate) fn remove(tables: &mut Tables<'_>, digest: &Digest) -> Result<(), Failure> {
    match count(tables, digest)? {
        0 | 1 => drop(tables.blobs.open()?.remove(digest.as_bytes())?),
        before => drop(tables.blobs.open()?.insert(digest.as_bytes(), before - 1)?),
    }
    Ok(())
}

/// How many rows name a blob.
fn count(tables: &mut Tables<'_>, digest: &Digest) -> Result<u64, Failure> {
    Ok(tables.blobs.open()?.get(digest.as_bytes())?.map_or(0, |count| count.value()))
}
