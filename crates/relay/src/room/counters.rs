//! The version vectors, as far as the relay understands them: how many operations of each peer a client has.
//!
//! Loro encodes one in the format of postcard: the number of peers, then the id and the counter of each, all as
//! variable-length numbers, the counter with its sign in the lowest bit.

/// The largest version vector that is read, in bytes. A client with a larger one is served alone.
const LARGEST: usize = 64 * 1024;

/// The counter of each peer, ordered by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counters {
    peers: Vec<(u64, u32)>,
}

impl Counters {
    /// Reads an encoded version vector; `None` if the bytes are not one, or too large.
    pub(crate) fn read(encoded: &[u8]) -> Option<Self> {
        if encoded.len() > LARGEST {
            return None;
        }
        let mut rest = encoded;
        let count = number(&mut rest)?;
        let mut peers = Vec::new();
        for _ in 0..count {
            let peer = number(&mut rest)?;
            let counter = number(&mut rest)?;
            let is_negative = counter & 1 == 1;
            if is_negative {
                return None;
            }
            peers.push((peer, u32::try_from(counter >> 1).ok()?));
        }
        peers.sort_unstable();
        rest.is_empty().then_some(Self { peers })
    }

    /// Encodes the version as Loro does.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        write(&mut encoded, self.peers.len() as u64);
        for (peer, counter) in &self.peers {
            write(&mut encoded, *peer);
            write(&mut encoded, u64::from(*counter) << 1);
        }
        encoded
    }

    /// Computes what both have.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let mut others = other.peers.iter().copied().peekable();
        let mut common = |(peer, counter): &(u64, u32)| {
            while others.next_if(|other| other.0 < *peer).is_some() {}
            let (_, other) = others.next_if(|other| other.0 == *peer)?;
            Some((*peer, other.min(*counter)))
        };
        Self {
            peers: self.peers.iter().filter_map(&mut common).collect(),
        }
    }

    /// The number of operations.
    pub(crate) fn total(&self) -> u64 {
        let counters = self.peers.iter().map(|(_, counter)| u64::from(*counter));
        counters.sum()
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn write(encoded: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        encoded.push(number as u8 | 0x80);
        number >>= 7;
    }
    encoded.push(number as u8);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn counters(peers: &[(u64, u32)]) -> Counters {
        Counters {
            peers: peers.to_vec(),
        }
    }

    #[test]
    fn they_are_read_as_loro_writes_them() {
        // VersionVector::encode of {300: 100, 1: 5}, in any order.
        let encoded = [2, 0xac, 0x02, 0xc8, 0x01, 1, 10];
        let read = Counters::read(&encoded).unwrap();
        assert_eq!(read, counters(&[(1, 5), (300, 100)]));
        assert_eq!(Counters::read(&read.encode()), Some(read));
        let widest = counters(&[(u64::MAX, i32::MAX as u32)]);
        assert_eq!(Counters::read(&widest.encode()), Some(widest));
        assert_eq!(Counters::read(&[0]), Some(counters(&[])));
        for garbage in [
            &[][..],
            &[1],
            &[1, 1],
            &[0, 0],
            &[1, 1, 1],
            &[0xff; 12],
            &[1, 1, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert_eq!(Counters::read(garbage), None, "{garbage:?}");
        }
        assert_eq!(Counters::read(&vec![0; LARGEST + 1]), None);
    }

    #[test]
    fn what_two_have_in_common() {
        let one = counters(&[(1, 5), (2, 7), (9, 1)]);
        let other = counters(&[(2, 9), (3, 4), (9, 1)]);
        let expected = counters(&[(2, 7), (9, 1)]);
        assert_eq!(one.common(&other), expected);
        assert_eq!(other.common(&one), expected);
        assert_eq!((one.total(), expected.total()), (13, 8));
        assert_eq!(one.common(&counters(&[])), counters(&[]));
    }
}
