//! Goal: whatever happens to the files of an edition, it is refused, or answers what it always answered, or says which
//! file is not as it was written; never a panic, never memory by a number that is only claimed.
//! Method: flipped bits, cuts and added bytes at random places of each file; and editions whose every checksum is right,
//! over content that makes no sense.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use telos_archive::{Edition, OpenError, ReadError, Row, Verify, open};

use crate::fixture::{Random, built, is_long, random_rows, rows};

const BLOCK: usize = 4096;
const SUM: usize = 8;

/// Editions of every kind: a graph with twins, and a flat one.
fn editions(place: &Path) -> Vec<(PathBuf, Vec<Row>)> {
    let mut random = Random(21);
    let mut directions: Vec<_> = (0..900).map(|_| random.direction(24)).collect();
    directions[3] = directions[2].clone();
    let all = [("graph", rows(directions)), ("flat", random_rows(22, 120, 24))];
    all.into_iter()
        .map(|(name, rows)| {
            built(&place.join(name), &rows);
            (place.join(name), rows)
        })
        .collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// All that an edition can be asked, each answer or its error.
fn ask(edition: &Edition, rows: &[Row]) -> Vec<Result<String, ReadError>> {
    let mut answers = Vec::new();
    for (number, row) in (0_u32..).zip(rows).step_by(29) {
        answers.push(edition.near(&row.direction, 40).map(|found| format!("{found:?}")));
        answers.push(edition.find(row.object).map(|found| format!("{found:?}")));
        answers.push(edition.row(number).map(|found| format!("{found:?}")));
        answers.push(edition.direction(number).map(|found| format!("{found:?}")));
    }
    answers.push(edition.scan(&rows[0].direction, 30, &|row| Ok(row != 1)).map(|found| format!("{found:?}")));
    let objects: Result<Vec<_>, _> = edition.objects().collect();
    answers.push(objects.map(|found| format!("{found:?}")));
    answers
}

#[track_caller]
fn without_panic<T>(what: &str, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| panic!("{what}: panicked"))
}

/// Damages one file.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let len = bytes.len() as u64;
    match random.below(4) {
        0 if len > 0 => {
            let kept = random.below(len);
            bytes.truncate(usize::try_from(kept).unwrap());
            format!("cut to {kept} of {len}")
        }
        1 => {
            let more = 1 + random.below(9_000);
            bytes.extend((0..more).map(|_| u8::try_from(random.below(256)).unwrap()));
            format!("{more} more than {len}")
        }
        _ if len > 0 => {
            let (at, bit) = (random.below(len), random.below(8));
            bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
            format!("bit {bit} of byte {at} of {len}")
        }
        _ => {
            bytes.push(1);
            "one more".into()
        }
    }
}

#[test]
fn a_damaged_edition_is_refused_or_never_answers_wrongly() {
    let place = tempfile::tempdir().unwrap();
    let mut random = Random(23);
    let (mut tried, mut opened, mut refused) = (0, 0, 0);
    for (dir, rows) in editions(place.path()) {
        let right: Vec<String> =
            ask(&open(&dir, Verify::Quick).unwrap(), &rows).into_iter().map(Result::unwrap).collect();
        for file in files(&dir) {
            let whole = fs::read(&file).unwrap();
            for _ in 0..if is_long() { 400 } else { 12 } {
                let mut bytes = whole.clone();
                let what = format!("{}: {}", file.display(), damage(&mut bytes, &mut random));
                fs::write(&file, &bytes).unwrap();
                tried += 1;
                assert!(without_panic(&what, || open(&dir, Verify::Full)).is_err(), "{what}: opened");
                let Ok(edition) = without_panic(&what, || open(&dir, Verify::Quick)) else { continue };
                opened += 1;
                for (answer, right) in without_panic(&what, || ask(&edition, &rows)).into_iter().zip(&right) {
                    match answer {
                        Ok(answer) => assert_eq!(answer, *right, "{what}"),
                        Err(error) => {
                            assert!(matches!(error, ReadError::Damaged { .. }), "{what}: {error}");
                            refused += 1;
                        }
                    }
                }
            }
            fs::write(&file, &whole).unwrap();
        }
        open(&dir, Verify::Full).unwrap();
    }
    println!("{tried} damaged, {opened} opened quickly, {refused} answers refused");
    assert!(opened > 0 && refused > 0);
}

#[test]
fn a_file_that_is_gone_is_named() {
    let place = tempfile::tempdir().unwrap();
    for (dir, _) in editions(place.path()) {
        for file in files(&dir) {
            let whole = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            match open(&dir, Verify::Quick).map(drop).unwrap_err() {
                OpenError::Unfinished { path } => assert!(path == dir && file.ends_with("MANIFEST")),
                OpenError::File { path, .. } => assert_eq!(path, file),
                other => panic!("{other}"),
            }
            fs::write(&file, &whole).unwrap();
        }
    }
}

/// Changes the manifest as somebody who knows how it is checked.
fn edit_manifest(dir: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = dir.join("MANIFEST");
    let text = fs::read_to_string(&path).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&text[..text.len() - 65]).unwrap();
    edit(&mut manifest);
    let json = format!("{manifest}\n");
    fs::write(&path, format!("{json}{}\n", blake3::hash(json.as_bytes()))).unwrap();
}

/// Puts other data into a file, with all its checksums right.
fn forge(dir: &Path, name: &str, change: impl FnOnce(&mut [u8])) {
    let path = dir.join(name);
    let mut data = fs::read(&path).unwrap();
    // One sum of 8 bytes for each block.
    let mut len = data.len();
    while len + len.div_ceil(BLOCK) * SUM > data.len() {
        len -= 1;
    }
    data.truncate(len);
    change(&mut data);
    let sums: Vec<u8> =
        data.chunks(BLOCK).flat_map(|block| blake3::hash(block).as_bytes()[..SUM].to_vec()).collect();
    fs::write(&path, [data.as_slice(), &sums].concat()).unwrap();
    edit_manifest(dir, |manifest| {
        manifest["files"][name]["blake3"] = blake3::hash(&data).to_string().into();
        manifest["files"][name]["sums"] = blake3::hash(&sums).to_string().into();
    });
}

#[test]
fn content_that_makes_no_sense_is_an_error_or_an_answer() {
    let place = tempfile::tempdir().unwrap();
    let mut random = Random(24);
    let mut tried = 0;
    for (dir, rows) in editions(place.path()) {
        let manifest = fs::read(dir.join("MANIFEST")).unwrap();
        for file in files(&dir).into_iter().filter(|file| !file.ends_with("MANIFEST")) {
            let (whole, name) =
                (fs::read(&file).unwrap(), file.file_name().unwrap().to_str().unwrap().to_owned());
            for round in 0..if is_long() { 200 } else { 10 } {
                forge(&dir, &name, |data| {
                    for byte in data.iter_mut() {
                        if round == 0 || random.below(1 << (round % 12)) == 0 {
                            *byte = u8::try_from(random.below(256)).unwrap();
                        }
                    }
                });
                tried += 1;
                let what = format!("{name}, round {round}");
                if let Ok(edition) = without_panic(&what, || open(&dir, Verify::Full)) {
                    without_panic(&what, || ask(&edition, &rows));
                }
                fs::write(&file, &whole).unwrap();
                fs::write(dir.join("MANIFEST"), &manifest).unwrap();
            }
            fs::write(&file, &whole).unwrap();
            fs::write(dir.join("MANIFEST"), &manifest).unwrap();
        }
    }
    println!("{tried} forged");
}

#[test]
fn a_manifest_that_claims_too_much_is_refused() {
    let place = tempfile::tempdir().unwrap();
    for (dir, _) in editions(place.path()) {
        let manifest = fs::read(dir.join("MANIFEST")).unwrap();
        for (field, claim) in [
            ("rows", 4_294_967_294_u64.into()),
            ("rows", 4_294_967_295_u64.into()),
            ("directions", 1_u64.into()),
            ("directions", 4_000_000_000_u64.into()),
            ("dim", 0.into()),
            ("dim", 65_536.into()),
            ("dim", u64::MAX.into()),
            ("rows", (-1).into()),
            ("metric", "length".into()),
            ("engine", serde_json::json!({"name": "hnsw"})),
            (
                "engine",
                serde_json::json!({"name": "disk-ann", "version": "", "degree": 4096, "entry": 0, "pieces": 1}),
            ),
            (
                "engine",
                serde_json::json!({"name": "disk-ann", "version": "", "degree": u64::MAX, "entry": 0, "pieces": 0}),
            ),
            ("files", serde_json::json!({})),
            ("more", true.into()),
        ] {
            let what = format!("{field} {claim}");
            edit_manifest(&dir, |manifest| manifest[field] = claim);
            let error = open(&dir, Verify::Quick).map(drop).unwrap_err();
            assert!(matches!(error, OpenError::Manifest { .. }), "{what}: {error}");
            fs::write(dir.join("MANIFEST"), &manifest).unwrap();
        }
        for bytes in [u64::MAX, u64::MAX - 7, 1 << 60] {
            edit_manifest(&dir, |manifest| manifest["files"]["metadata"]["bytes"] = bytes.into());
            let error = open(&dir, Verify::Quick).map(drop).unwrap_err();
            assert!(matches!(error, OpenError::Length { .. }), "{bytes}: {error}");
            fs::write(dir.join("MANIFEST"), &manifest).unwrap();
        }
        // A name that leads elsewhere.
        edit_manifest(&dir, |manifest| manifest["files"]["../rows"] = manifest["files"]["rows"].clone());
        assert!(matches!(open(&dir, Verify::Quick), Err(OpenError::Manifest { .. })));
        fs::write(dir.join("MANIFEST"), vec![b' '; 1 << 20]).unwrap();
        assert!(matches!(open(&dir, Verify::Quick), Err(OpenError::Manifest { .. })));
    }
}

#[test]
fn an_edition_of_another_format_says_which() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("edition");
    built(&dir, &random_rows(25, 20, 8));
    edit_manifest(&dir, |manifest| *manifest = serde_json::json!({"format": 2, "whatever": []}));
    let error = open(&dir, Verify::Quick).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 2, known: 1, .. }), "{error}");
}
