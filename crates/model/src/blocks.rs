//! Which of the blocks that rules name an address falls in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::rule::{Block, Class};

/// The blocks of one rule, sorted. A rule does not tell apart in which of them an address is: a list of a thousand blocks costs one
/// identity, not a thousand.
pub(crate) type BlockList = Vec<Block>;

/// Lists that an address is in, by their numbers, in order.
pub(crate) type BlockSet = Vec<u32>;

/// Lists cut into regions: every prefix that a block or one of its holes names. An address is in the lists that cover the longest
/// region over it.
#[derive(Debug, Default)]
pub(crate) struct BlockIndex {
    /// Each with its place in `sets`.
    regions: BTreeMap<IpNet, usize>,
    /// Prefix lengths of the regions, longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
    /// Distinct sets, each with what of it reaches pods and other nodes, and what of it reaches the own node.
    sets: Vec<[BlockSet; 3]>,
}

impl BlockIndex {
    /// Indexes numbered lists, which are distinct.
    pub(crate) fn new<'a>(lists: impl Iterator<Item = (u32, &'a BlockList)>) -> Self {
        let lists: BTreeMap<u32, &BlockList> = lists.collect();
        let mut index = Self::default();
        let mut members: BTreeMap<&Block, Vec<u32>> = BTreeMap::new();
        for (id, list) in &lists {
            for block in *list {
                members.entry(block).or_default().push(*id);
            }
        }
        let named = |block: &Block| [block.cidr].into_iter().chain(block.except.iter().copied()).collect::<Vec<_>>();
        let prefixes: BTreeSet<IpNet> = members.keys().flat_map(|block| named(block)).collect();
        let mut by_cidr: BTreeMap<IpNet, Vec<&Block>> = BTreeMap::new();
        for block in members.keys() {
            by_cidr.entry(block.cidr).or_default().push(block);
        }
        let restricted = |set: &BlockSet, class: Class| {
            let reaches = |id: &&u32| {
                lists.get(id).and_then(|list| list.first()).is_some_and(|block| block.reach.includes(class))
            };
            set.iter().filter(reaches).copied().collect()
        };
        let mut known = BTreeMap::new();
        for prefix in &prefixes {
            let over = prefixes_over(*prefix).filter_map(|over| by_cidr.get(&over)).flatten();
            let covering: BTreeSet<u32> = over
                .filter(|block| block.covers(*prefix))
                .flat_map(|block| members.get(*block).into_iter().flatten().copied())
                .collect();
            let set = *known.entry(covering.into_iter().collect::<BlockSet>()).or_insert_with_key(|covering| {
                let [others, own] = [Class::Pod, Class::OwnNode].map(|class| restricted(covering, class));
                index.sets.push([covering.clone(), others, own]);
                index.sets.len() - 1
            });
            index.regions.insert(*prefix, set);
        }
        let lengths = |v4: bool| {
            let lengths = prefixes.iter().filter(|prefix| prefix.addr().is_ipv4() == v4).map(IpNet::prefix_len);
            lengths.collect::<BTreeSet<_>>().into_iter().rev().collect()
        };
        index.lengths_v4 = lengths(true);
        index.lengths_v6 = lengths(false);
        index
    }

    /// The lists that `address` is in, and that reach what has it.
    pub(crate) fn of_address(&self, address: IpAddr, class: Class) -> &[u32] {
        let Some([all, others, own]) = self.set(IpNet::from(address)) else { return &[] };
        match class {
            Class::Pod | Class::OtherNode => others,
            Class::OwnNode => own,
            Class::Unmanaged | Class::World(_) => all,
        }
    }

    /// The lists that `prefix` is in, apart from regions inside it.
    pub(crate) fn of_prefix(&self, prefix: IpNet) -> &[u32] {
        self.set(prefix).map_or(&[], |[all, ..]| all)
    }

    fn set(&self, prefix: IpNet) -> Option<&[BlockSet; 3]> {
        let lengths = if prefix.addr().is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        let mut covering = lengths.iter().filter(|length| **length <= prefix.prefix_len());
        let region =
            |length: &u8| IpNet::new(prefix.addr(), *length).ok().and_then(|net| self.regions.get(&net.trunc()));
        self.sets.get(*covering.find_map(region)?)
    }

    /// All regions, in order: shorter prefixes before longer ones inside them.
    pub(crate) fn regions(&self) -> impl Iterator<Item = IpNet> {
        self.regions.keys().copied()
    }
}

/// `prefix` and all shorter ones over it.
fn prefixes_over(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    (0..=prefix.prefix_len()).filter_map(move |length| Some(IpNet::new(prefix.addr(), length).ok()?.trunc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Reach;

    #[test]
    fn an_address_is_in_the_lists_that_contain_it() {
        let block = |cidr: &str, except: &[&str]| {
            let except: Vec<IpNet> = except.iter().map(|hole| hole.parse().unwrap()).collect();
            Block::new(cidr.parse().unwrap(), &except, Reach::Others)
        };
        let blocks = [
            block("0.0.0.0/0", &["10.0.0.0/8", "192.168.0.0/16"]),
            block("10.0.0.0/8", &["10.1.0.0/16"]),
            block("10.1.2.0/24", &[]),
            block("::/0", &["fd00::/8"]),
            block("fd00:1::/32", &["fd00:1:2::/48"]),
        ];
        let [world, ten, narrow, v6, v6_narrow] = blocks;
        let lists: Vec<BlockList> = vec![vec![world.clone(), narrow], vec![ten, v6_narrow], vec![world], vec![v6]];
        let index = BlockIndex::new((0..).zip(&lists));
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
            let containing = (0..).zip(&lists).filter(|(_, list)| list.iter().any(|block| block.contains(address)));
            let expected: Vec<u32> = containing.map(|(id, _)| id).collect();
            assert_eq!(index.of_address(address, Class::Pod), expected, "{address}");
            assert_eq!(index.of_address(address, Class::OwnNode), [0; 0], "{address}");
        }
    }
}
