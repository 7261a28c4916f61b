//! Which of the blocks that rules name an address falls in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::rule::{Block, Class};

/// The blocks of one rule, sorted. A rule does not tell apart in which of them an address is: a list of a thousand blocks costs one
/// identity, not a thousand.
pub(crate) type BlockList<'a> = Vec<&'a Block>;

/// Index of a distinct set of lists; 0 is the empty set.
pub(crate) type BlockSet = usize;

/// Lists cut into regions: every prefix that a block or one of its holes names. An address is in the lists that cover the longest
/// region over it.
#[derive(Debug, Default)]
pub(crate) struct BlockIndex<'a> {
    lists: Vec<BlockList<'a>>,
    regions: BTreeMap<IpNet, BlockSet>,
    /// Prefix lengths of the regions, longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
    sets: Vec<Vec<usize>>,
    /// Of each set, what of it reaches pods and other nodes, and what of it reaches the own node.
    reaching: Vec<[BlockSet; 2]>,
}

impl<'a> BlockIndex<'a> {
    /// Indexes `lists`, which are distinct.
    pub(crate) fn new(lists: Vec<BlockList<'a>>) -> Self {
        let mut index = Self { sets: vec![Vec::new()], ..Self::default() };
        let mut members: BTreeMap<&Block, Vec<usize>> = BTreeMap::new();
        for (at, list) in lists.iter().enumerate() {
            for block in list {
                members.entry(block).or_default().push(at);
            }
        }
        let named = |block: &Block| [block.cidr].into_iter().chain(block.except.iter().copied()).collect::<Vec<_>>();
        let prefixes: BTreeSet<IpNet> = members.keys().flat_map(|block| named(block)).collect();
        let mut by_cidr: BTreeMap<IpNet, Vec<&Block>> = BTreeMap::new();
        for block in members.keys() {
            by_cidr.entry(block.cidr).or_default().push(block);
        }
        let mut known = BTreeMap::from([(Vec::new(), 0)]);
        for prefix in &prefixes {
            let over = prefixes_over(*prefix).filter_map(|over| by_cidr.get(&over)).flatten();
            let covering: BTreeSet<usize> = over
                .filter(|block| block.covers(*prefix))
                .flat_map(|block| members.get(*block).into_iter().flatten().copied())
                .collect();
            let set = *known.entry(covering.into_iter().collect::<Vec<_>>()).or_insert_with_key(|covering| {
                index.sets.push(covering.clone());
                index.sets.len() - 1
            });
            index.regions.insert(*prefix, set);
        }
        index.restrict(&lists, &mut known);
        let lengths = |v4: bool| {
            let lengths = prefixes.iter().filter(|prefix| prefix.addr().is_ipv4() == v4).map(IpNet::prefix_len);
            lengths.collect::<BTreeSet<_>>().into_iter().rev().collect()
        };
        index.lengths_v4 = lengths(true);
        index.lengths_v6 = lengths(false);
        index.lists = lists;
        index
    }

    fn restrict(&mut self, lists: &[BlockList<'a>], known: &mut BTreeMap<Vec<usize>, BlockSet>) {
        for set in 0..self.sets.len() {
            let restricted = [Class::Pod, Class::OwnNode].map(|class| {
                let reaches = |list: &&usize| {
                    lists.get(**list).and_then(|list| list.first()).is_some_and(|block| block.reach.includes(class))
                };
                let kept: Vec<_> = self.members(set).iter().filter(reaches).copied().collect();
                *known.entry(kept).or_insert_with_key(|kept| {
                    self.sets.push(kept.clone());
                    self.sets.len() - 1
                })
            });
            self.reaching.push(restricted);
        }
    }

    /// The lists that `address` is in, and that reach what has it.
    pub(crate) fn of_address(&self, address: IpAddr, class: Class) -> BlockSet {
        let set = self.of_prefix(IpNet::from(address));
        let [others, own] = self.reaching.get(set).copied().unwrap_or_default();
        match class {
            Class::Pod | Class::OtherNode => others,
            Class::OwnNode => own,
            Class::Unmanaged | Class::World(_) => set,
        }
    }

    /// The lists that `prefix` is in, apart from regions inside it.
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

    /// Indices of the lists of a set.
    pub(crate) fn members(&self, set: BlockSet) -> &[usize] {
        self.sets.get(set).map_or(&[], Vec::as_slice)
    }

    /// The lists of a set as text, in order; it tells sets apart whatever else is indexed.
    pub(crate) fn content(&self, set: BlockSet) -> String {
        let lists = self.members(set).iter().filter_map(|list| self.lists.get(*list));
        let text = |list: &BlockList<'_>| list.iter().map(ToString::to_string).collect::<Vec<_>>().join("|");
        let texts: BTreeSet<String> = lists.map(text).collect();
        texts.into_iter().collect::<Vec<_>>().join("&")
    }

    /// The blocks of the lists of a set as text, in order.
    pub(crate) fn texts(&self, set: BlockSet) -> Vec<String> {
        let lists = self.members(set).iter().filter_map(|list| self.lists.get(*list));
        let blocks: BTreeSet<&Block> = lists.flatten().copied().collect();
        blocks.into_iter().map(ToString::to_string).collect()
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
        let lists: Vec<BlockList<'_>> =
            vec![vec![&blocks[0], &blocks[2]], vec![&blocks[1], &blocks[4]], vec![&blocks[0]], vec![&blocks[3]]];
        let index = BlockIndex::new(lists.clone());
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
            let expected: Vec<_> =
                (0..lists.len()).filter(|at| lists[*at].iter().any(|block| block.contains(address))).collect();
            assert_eq!(index.members(index.of_address(address, Class::Pod)), expected, "{address}");
            assert_eq!(index.members(index.of_address(address, Class::OwnNode)), [0; 0], "{address}");
        }
    }
}
