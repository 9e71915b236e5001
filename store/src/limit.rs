//! Every bound of the store, in one place. What happens at a bound is said where it is checked: the call answers
//! an error that names the bound and changes nothing.

use std::time::Duration;

/// Bytes of one slot name.
pub const SLOT_NAME_BYTES_MAX: usize = 128;
/// Bytes of one JSON value: a slot, a post's arguments.
pub const VALUE_BYTES_MAX: usize = 256 * 1024;
/// Slots of one object.
pub const SLOTS_PER_OBJECT_MAX: usize = 1_024;
/// Parents of one object.
pub const PARENTS_PER_OBJECT_MAX: usize = 32;
/// Bytes of one object: its slot names, values and parents together.
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one component id.
pub const COMPONENT_BYTES_MAX: usize = 64;
/// Bytes of one object name, and of one collection name.
pub const NAME_BYTES_MAX: usize = 256;
/// Names that one listing answers.
pub const NAMES_PER_LIST_MAX: usize = 1_000;
/// Earlier states that one history answers.
pub const HISTORY_ROWS_MAX: usize = 100;
/// Objects that one lookup visits before it gives up: receiver and ancestors.
pub const ANCESTORS_MAX: usize = 1_024;

/// Bytes that must fit on the device again before a store that found it full takes writes: what some small commits take.
pub const ROOM_BYTES: u64 = 1024 * 1024;
/// How often a store that found its device full looks for room; longer than a client waits before it asks again, so
/// that the answer is then a refusal and not another failure.
pub const ROOM_POLL: Duration = Duration::from_secs(1);

/// Bytes that one unit may write: objects, vectors, posts, audit, records and the outcome.
pub const UNIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Distinct objects, names and vectors that one unit may read.
pub const UNIT_READS_MAX: usize = 65_536;
/// Bytes of objects that one unit may read, since it keeps what it read.
pub const UNIT_READ_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Posts of one unit.
pub const POSTS_PER_UNIT_MAX: usize = 1_000;
/// Posts waiting for delivery in the whole store.
pub const POSTS_PENDING_MAX: usize = 100_000;
/// Posts waiting for delivery whose sources one component owns: a tenth of all, so that one that posts without end leaves
/// room for others.
pub const POSTS_PENDING_PER_OWNER_MAX: usize = 10_000;
/// How often a post may have caused another post.
pub const POST_HOPS_MAX: u32 = 32;
/// Failed deliveries after which a post becomes a dead letter.
pub const POST_ATTEMPTS_MAX: u32 = 3;
/// Dead letters kept; beyond that the oldest gives way (its audit row stays).
pub const DEAD_LETTERS_MAX: u64 = 10_000;
/// Audit rows and system records of one unit, each.
pub const RECORDS_PER_UNIT_MAX: usize = 4_096;
/// Bytes of one audit row before its commit dates it.
pub const AUDIT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of audit rows that one backward listing answers, exceeded by at most one row: far below a bridge's message.
pub const AUDIT_READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one inbox path.
pub const PATH_BYTES_MAX: usize = 4 * 1024;

/// The longest time between two moments while something is decided: how exactly a time names a position.
pub const MOMENT_MS_MAX: u64 = 60 * 1_000;
/// Moments dropped by one commit that raises the history floor.
pub const MOMENT_TRIM_ROWS: usize = 4_096;
/// States and names that one step of pruning removes, so that it never dominates a commit: each may be a page.
pub const PRUNE_ROWS_PER_STEP: usize = 512;
/// Entries looked at to find how far a bound in rows raises the history floor: each raise is a commit.
pub const PRUNE_LOOKAHEAD_ROWS: usize = 16_384;
/// Objects that one call forgets.
pub const FORGET_OBJECTS_MAX: usize = 1_000;
/// States of other objects that one call frees of a forgotten parent.
pub const FORGET_DETACHED_MAX: usize = 10_000;
/// Rows that one search for traces names; more are not looked for.
pub const TRACES_MAX: usize = 1_000;
/// Objects of one listing of what is still to be evolved.
pub const UNEVOLVED_PER_LIST_MAX: usize = 1_000;
/// Bytes after which such a listing ends, so that its evolved copies fit one unit: they may be twice as large.
pub const SHADOW_BATCH_BYTES_MAX: usize = UNIT_BYTES_MAX / 4;
/// Shadows that one commit settles or drops, so that other units wait for milliseconds only.
pub const SHADOWS_PER_STEP_MAX: usize = 1_000;
/// Bytes of states, before and after, that a draft gathers for one transaction of its copy.
pub const DRAFT_STEP_BYTES: usize = 16 * 1024 * 1024;
/// States that a draft gathers for one transaction of its copy.
pub const DRAFT_STEP_OBJECTS: usize = 4_096;
/// Names that one draft binds or unbinds, since it keeps them in memory.
pub const DRAFT_NAMES_MAX: usize = 65_536;
/// Bytes of states that one rehearsal of a draft puts, since they stay in memory; they take about twice that.
pub const REHEARSAL_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Components of one vector.
pub const VECTOR_DIM_MAX: usize = 4_096;
/// Vector collections of one owner.
pub const COLLECTIONS_PER_OWNER_MAX: usize = 1_000;
/// Bytes of one vector's metadata.
pub const METADATA_BYTES_MAX: usize = 4 * 1024;
/// Bytes of all vectors of one owner, with their metadata and 300 more for each, unless the store is opened with another
/// bound: some 140,000 of 384 components. They are in memory, and each is read at every start.
pub const VECTOR_BYTES_PER_OWNER_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of all vectors, unless the store is opened with another bound: a quarter of a small machine's memory.
pub const VECTOR_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Neighbours that one search answers.
pub const NEIGHBORS_MAX: usize = 1_000;
/// Rows that a collection's exact tail gathers before they get a graph: some tenths of a millisecond to read.
pub const TAIL_ROWS_MAX: usize = 4_096;
/// Segments of like size that become one.
pub const SEGMENTS_PER_TIER: usize = 4;
/// A segment is built anew when more than one of so many of its rows are dead.
pub const DEAD_SHARE_MAX: usize = 5;
/// Near rows that a search keeps in view, at least, unless it asks for less.
pub const SEARCH_EFFORT_MIN: usize = SEARCH_EFFORTS[0];
/// Efforts that are tried when a graph is built: the least that finds [`RECALL_MIN`] is what it is searched with. 64 do
/// among clustered vectors (0.99 and more) and up to some 100 components where all are about as far (0.96 at 128, 0.84
/// at 384); 256 do there.
pub const SEARCH_EFFORTS: [usize; 3] = [64, 256, 1_024];
/// What a search of a graph finds of the ten nearest, as tried on some two dozen rows when it is built: else every row is
/// read.
pub const RECALL_MIN: f32 = 0.95;
/// Near rows that a search of a graph keeps in view, at most, whatever it asks for: all rows are read where that is not
/// enough.
pub const SEARCH_EFFORT_MAX: usize = 2_048;
/// How many rows are read in order while one is looked at on a walk through a graph.
pub const WALK_COST: usize = 32;
/// Where a graph that lost rows since it was written down finds less of the nearest, a start leaves them to be built anew.
pub const LOADED_RECALL_MIN: f32 = 0.9;
/// Bytes of vectors that are copied at once for a segment, while whoever changes the index waits: some tenths of a
/// millisecond.
pub const GATHER_BYTES_MAX: usize = 1024 * 1024;
/// Rows of a tail that one segment is made of.
pub const SEALED_ROWS_MAX: usize = 65_536;
/// Where a smaller share of a segment's rows may be shown, all of them are read.
pub const FLAT_SHARE: f32 = 0.05;
/// Redo rows kept for index followers; older ones are trimmed and the floor in the meta table says so.
pub const REDO_ROWS_MAX: u64 = 65_536;
/// Redo rows trimmed by one commit group, so that trimming never dominates a commit.
pub const REDO_TRIM_ROWS: usize = 512;
/// Age after which an open unit no longer keeps old vectors from being compacted.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(60);

/// Dedupe rows of one session above its watermark.
pub const DEDUPE_ROWS_PER_SESSION_MAX: u32 = 1_024;
/// Sessions whose requests are known without reading them: at some 10 bytes a request, 10 MiB at most. Beyond that those
/// with nothing pending are forgotten, and read again as they vote.
pub const SESSIONS_KNOWN_MAX: usize = 1_024;
/// Idle time after which a session is closed for good.
pub const SESSION_IDLE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Sessions that one sweep closes.
pub const SESSIONS_PER_SWEEP_MAX: usize = 256;

/// Bytes of the newer, and of the older, half of the states that are remembered after they were decided.
pub const RECENT_HALF_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What remembering one state takes besides its values: a map of slots has room for eleven however few there are.
pub const RECENT_STATE_BYTES: usize = 1_280;
/// What each slot takes besides its value.
pub const RECENT_SLOT_BYTES: usize = 256;

/// Units waiting for the committer; beyond that a decision is refused as busy.
pub const QUEUE_UNITS_MAX: usize = 1_024;
/// Units of one commit group.
pub const GROUP_UNITS_MAX: usize = 128;
/// Bytes of one commit group, exceeded by at most one unit.
pub const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one blob.
pub const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that all blobs may take on disk, unless the store is opened with another quota.
pub const BLOBS_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes that the database file may take before units that add rows are refused, unless the store is opened with
/// another quota.
pub const DATABASE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Bytes that one component may store, unless the store is opened with another bound: a quarter of what all may, so that
/// one that fills its own leaves room for others.
pub const STORED_BYTES_PER_OWNER_MAX: u64 = DATABASE_BYTES_MAX / 4;
/// Time for which a blob that was just put is not collected, though nothing names it yet.
pub const BLOB_GRACE_MS: u64 = 10 * 60 * 1_000;
/// Distinct blobs put within that time; beyond it a put is refused.
pub const BLOBS_RECENT_MAX: usize = 65_536;
/// Blobs that one step of a collection looks at while the committer waits.
pub const BLOBS_PER_STEP: usize = 256;
