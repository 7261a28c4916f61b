//! Which of the blocks that policies name an address falls in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::rule::Block;

/// Index of a distinct set of blocks; 0 is the empty set.
pub(crate) type BlockSet = usize;

/// Blocks cut into regions: every prefix that a block or one of its holes names. An address is in the blocks that cover the
/// longest region over it.
#[derive(Debug, Default)]
pub(crate) struct BlockIndex<'a> {
    blocks: Vec<&'a Block>,
    regions: BTreeMap<IpNet, BlockSet>,
    /// Prefix lengths of the regions, longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
    sets: Vec<Vec<usize>>,
}

impl<'a> BlockIndex<'a> {
    /// Indexes `blocks`, which are distinct and in order.
    pub(crate) fn new(blocks: Vec<&'a Block>) -> Self {
        let mut index = Self { blocks, sets: vec![Vec::new()], ..Self::default() };
        let prefixes: BTreeSet<IpNet> = index
            .blocks
            .iter()
            .flat_map(|block| [block.cidr].into_iter().chain(block.except.iter().copied()))
            .collect();
        let mut lengths = (BTreeSet::new(), BTreeSet::new());
        let mut known = BTreeMap::from([(Vec::new(), 0)]);
        for prefix in prefixes {
            match prefix {
                IpNet::V4(_) => lengths.0.insert(prefix.prefix_len()),
                IpNet::V6(_) => lengths.1.insert(prefix.prefix_len()),
            };
            let covering: Vec<_> =
                index.blocks.iter().enumerate().filter(|(_, block)| block.covers(prefix)).map(|(at, _)| at).collect();
            let set = *known.entry(covering).or_insert_with_key(|covering| {
                index.sets.push(covering.clone());
                index.sets.len() - 1
            });
            index.regions.insert(prefix, set);
        }
        index.lengths_v4 = lengths.0.into_iter().rev().collect();
        index.lengths_v6 = lengths.1.into_iter().rev().collect();
        index
    }

    /// The blocks that `address` is in.
    pub(crate) fn of_address(&self, address: IpAddr) -> BlockSet {
        self.of_prefix(IpNet::from(address))
    }

    /// The blocks that `prefix` is in, apart from regions inside it.
    pub(crate) fn of_prefix(&self, prefix: IpNet) -> BlockSet {
        let lengths = if prefix.addr().is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        let mut covering = lengths.iter().filter(|length| **length <= prefix.prefix_len());
        let region =
            |length: &u8| IpNet::new(prefix.addr(), *length).ok().and_then(|net| self.regions.get(&net.trunc()));
        covering.find_map(region).copied().unwrap_or_default()
    }

    /// All regions, in order: shorter prefixes before longer ones inside them.
    pub(crate) fn regions(&self) -> impl Iterator<Item = IpNet> {
        self.regions.keys().copied()
    }

    /// Indices of the blocks of a set.
    pub(crate) fn members(&self, set: BlockSet) -> &[usize] {
        self.sets.get(set).map_or(&[], Vec::as_slice)
    }

    /// The blocks of a set, as text.
    pub(crate) fn texts(&self, set: BlockSet) -> Vec<String> {
        self.members(set).iter().filter_map(|block| self.blocks.get(*block)).map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_the_blocks_that_contain_it() {
        let block = |cidr: &str, except: &[&str]| Block {
            cidr: cidr.parse().unwrap(),
            except: except.iter().map(|hole| hole.parse().unwrap()).collect(),
        };
        let blocks = [
            block("0.0.0.0/0", &["10.0.0.0/8", "192.168.0.0/16"]),
            block("10.0.0.0/8", &["10.1.0.0/16"]),
            block("10.1.2.0/24", &[]),
            block("::/0", &["fd00::/8"]),
            block("fd00:1::/32", &["fd00:1:2::/48"]),
        ];
        let index = BlockIndex::new(blocks.iter().collect());
        for address in [
            "1.1.1.1",
            "10.0.0.1",
            "10.1.0.1",
            "10.1.2.3",
            "192.168.1.1",
            "2001:db8::1",
            "fd00::1",
            "fd00:1::1",
            "fd00:1:2::1",
        ] {
            let address: IpAddr = address.parse().unwrap();
            let expected: Vec<_> = (0..blocks.len()).filter(|at| blocks[*at].contains(address)).collect();
            assert_eq!(index.members(index.of_address(address)), expected, "{address}");
        }
    }
}
