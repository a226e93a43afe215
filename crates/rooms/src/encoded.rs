//! The depth of the values in an encoded update.
//!
//! Loro drops a value by recursion, and reading an update is enough for that. So its values are measured in the bytes,
//! before Loro reads them: also those that the update itself overwrites, and those that wait for other updates.
//!
//! An update is a row of blocks, each with its length before it; a snapshot has them in a key-value store. A block has
//! its operations in columns, and their values one after the other.

use std::ops::Bound;

use serde::Deserialize;
use serde_columnar::columnar;

use crate::{
    depth::{MOST_LEVELS, TOO_DEEP},
    packed,
};

/// The bytes before the kind of an update: the name of the format, and the checksum.
const BEFORE_KIND: usize = 4 + 16;

/// The most levels of one value. Above it are the root, which is level 0, and the value's container.
const MOST_OF_A_VALUE: usize = MOST_LEVELS - 1;

/// The length of the keys under which a snapshot has blocks: a peer and a counter.
const BLOCK_KEY: usize = 12;

/// A reason why the depth of an update is not known to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    TooDeep,
    /// The blocks are not written in the way that this reads.
    NotRead,
}

/// The byte that precedes the content of a nested list.
const LIST: u8 = 7;

/// The byte that precedes the content of a nested map.
const MAP: u8 = 8;

/// Checks that no value of an update lies deeper than [`MOST_LEVELS`]. This checks neither the checksum nor the state
/// of a snapshot. What cannot be read here passes, because another release of Loro may write it in another way.
///
/// # Errors
/// The reason for a refusal, in words.
pub(crate) fn check(payload: &[u8]) -> Result<(), String> {
    match measure(payload) {
        Err(Flaw::TooDeep) => Err(TOO_DEEP.to_owned()),
        Ok(()) | Err(Flaw::NotRead) => Ok(()),
    }
}

fn measure(payload: &[u8]) -> Result<(), Flaw> {
    let mut reader = Reader(payload);
    match reader.kind() {
        Some(Kind::Updates) => check_updates(reader),
        Some(Kind::Snapshot) => check_snapshot(reader),
        // Loro refuses it.
        None => Ok(()),
    }
}

/// The kinds of content that follow the header.
enum Kind {
    Snapshot,
    Updates,
}

fn check_updates(mut blocks: Reader<'_>) -> Result<(), Flaw> {
    // Each level takes at least one such byte, so fewer bytes cannot be too deep.
    let levels = blocks.0.iter().filter(|byte| matches!(**byte, LIST | MAP));
    if levels.count() <= MOST_OF_A_VALUE {
        return Ok(());
    }
    let next = || (!blocks.0.is_empty()).then(|| blocks.counted());
    check_blocks(std::iter::from_fn(next))
}

fn check_snapshot(mut body: Reader<'_>) -> Result<(), Flaw> {
    let length = body.take(4)?.try_into().map_err(|_| Flaw::NotRead)?;
    let history = body.take(u32::from_le_bytes(length) as usize)?;
    let store = packed::store(history).ok_or(Flaw::NotRead)?;
    let blocks = store.scan(Bound::Unbounded, Bound::Unbounded);
    let blocks = blocks.filter(|(key, _)| key.len() == BLOCK_KEY);
    check_blocks(blocks.map(|(_, block)| Ok(block)))
}

fn check_blocks(blocks: impl Iterator<Item = Result<impl AsRef<[u8]>, Flaw>>) -> Result<(), Flaw> {
    let mut all = Ok(());
    for block in blocks {
        match check_block(block?.as_ref()) {
            Ok(()) => {}
            // A later block may be too deep all the same.
            Err(Flaw::NotRead) => all = Err(Flaw::NotRead),
            Err(Flaw::TooDeep) => return Err(Flaw::TooDeep),
        }
    }
    all
}

/// The changes of a peer, as far as their values are concerned.
#[derive(Debug, Deserialize)]
struct Block<'a> {
    _counters: [u32; 2],
    _lamports: [u32; 2],
    _changes: u32,
    _header: &'a [u8],
    _meta: &'a [u8],
    containers: &'a [u8],
    _keys: &'a [u8],
    _positions: &'a [u8],
    operations: &'a [u8],
    _deleted: &'a [u8],
    values: &'a [u8],
}

/// A container whose operations are in a block.
#[columnar(vec, ser, de, iterable)]
#[derive(Debug, Clone)]
struct Container {
    #[columnar(strategy = "BoolRle")]
    is_root: bool,
    #[columnar(strategy = "Rle")]
    kind: u8,
    #[columnar(strategy = "Rle")]
    peer: usize,
    #[columnar(strategy = "DeltaRle")]
    key_or_counter: i32,
}

/// An operation in a block.
#[columnar(vec, ser, de, iterable)]
#[derive(Debug, Clone)]
struct Operation {
    #[columnar(strategy = "DeltaRle")]
    container: u32,
    #[columnar(strategy = "DeltaRle")]
    property: i32,
    #[columnar(strategy = "Rle")]
    kind: u8,
    #[columnar(strategy = "Rle")]
    length: u32,
}

#[columnar(ser, de)]
struct Operations {
    #[columnar(class = "vec", iter = "Operation")]
    operations: Vec<Operation>,
}

fn check_block(block: &[u8]) -> Result<(), Flaw> {
    let block: Block<'_> = postcard::from_bytes(block).map_err(|_| Flaw::NotRead)?;
    let containers: Vec<Container> =
        serde_columnar::from_bytes(block.containers).map_err(|_| Flaw::NotRead)?;
    let operations = serde_columnar::iter_from_bytes::<Operations>(block.operations);
    let mut values = Reader(block.values);
    for operation in operations.map_err(|_| Flaw::NotRead)?.operations {
        let operation = operation.map_err(|_| Flaw::NotRead)?;
        let container = containers.get(operation.container as usize);
        let kind = container.ok_or(Flaw::NotRead)?.kind;
        if values.operation(operation.kind, kind)? > MOST_OF_A_VALUE {
            return Err(Flaw::TooDeep);
        }
    }
    match values.0 {
        [] => Ok(()),
        // Bytes are left, so the values were not read as Loro wrote them.
        _ => Err(Flaw::NotRead),
    }
}

/// The part of some bytes that is not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads the header.
    fn kind(&mut self) -> Option<Kind> {
        self.take(BEFORE_KIND).ok()?;
        match self.take(2).ok()? {
            [0, 3] => Some(Kind::Snapshot),
            [0, 4] => Some(Kind::Updates),
            _ => None,
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Flaw::NotRead)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Flaw> {
        Ok(self.take(1)?[0])
    }

    /// Reads a number of seven bits a byte.
    fn number(&mut self) -> Result<u64, Flaw> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Flaw::NotRead)
    }

    fn numbers(&mut self, count: usize) -> Result<(), Flaw> {
        (0..count).try_for_each(|_| self.number().map(drop))
    }

    /// Reads a length. Loro, too, cuts it to the bits of an address, of which there are 32 in an instance.
    fn length(&mut self) -> Result<usize, Flaw> {
        Ok(self.number()? as usize)
    }

    /// Reads bytes with their length before them.
    fn counted(&mut self) -> Result<&'a [u8], Flaw> {
        let length = self.length()?;
        self.take(length)
    }

    /// Reads what an operation of this kind has in a container of this kind, and returns the levels of its value.
    fn operation(&mut self, kind: u8, container: u8) -> Result<usize, Flaw> {
        // An operation inserts several values into a list at once, as one list.
        const LISTS: [u8; 2] = [1, 4];
        match kind & 0x7f {
            // Nothing, true, false, and what is deleted.
            0..=2 | 8 | 9 => {}
            // Numbers, and a container.
            3 | 7 | 10 => self.numbers(1)?,
            4 => drop(self.take(8)?),
            11 => {
                let levels = self.value()?;
                let at_once = usize::from(LISTS.contains(&container));
                return Ok(levels.saturating_sub(at_once));
            }
            // The mark of a text.
            12 => {
                self.byte()?;
                self.numbers(2)?;
                return self.value();
            }
            // A node that is created or moved.
            13 => {
                self.numbers(1)?;
                let is_root = self.byte()? != 0;
                self.numbers(if is_root { 1 } else { 2 })?;
            }
            // The same, with the whole ids.
            16 => {
                self.numbers(3)?;
                let is_root = self.byte()? != 0;
                self.numbers(if is_root { 0 } else { 2 })?;
            }
            // What is moved within a list.
            14 => self.numbers(3)?,
            // What is set in a list.
            15 => {
                self.numbers(2)?;
                return self.value();
            }
            // Text, bytes, and what a later version may write.
            _ => drop(self.counted()?),
        }
        Ok(0)
    }

    /// Reads a value, and returns how deeply it is nested: a list in a list is two levels.
    fn value(&mut self) -> Result<usize, Flaw> {
        let mut deepest = 0;
        // Of each list or map that is not read to its end: what is left of it, and whether its values have keys.
        let mut open: Vec<(usize, bool)> = Vec::new();
        loop {
            match self.byte()? {
                0..=2 => {}
                3 => self.numbers(1)?,
                4 => drop(self.take(8)?),
                5 | 6 => drop(self.counted()?),
                kind @ (LIST | MAP) => {
                    open.push((self.length()?, kind == MAP));
                    deepest = deepest.max(open.len());
                }
                9 => drop(self.byte()?),
                _ => return Err(Flaw::NotRead),
            }
            while open.last().is_some_and(|(left, _)| *left == 0) {
                open.pop();
            }
            let Some((left, has_keys)) = open.last_mut() else {
                return Ok(deepest);
            };
            *left -= 1;
            if *has_keys {
                self.number()?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
