//! What is pinned in a folder of tables, whichever version made it.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::maps::{Array, MapData, MapError as AyaError, MapInfo};
use strait_packet::abi::{
    ABI_VERSION, EventKind, MetricKey,
    layout::{self, Conversion, Field, LAYOUT},
    map,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Error, maps,
    raw::{self, Sizes},
};

/// Tables that a new set of programs takes over as they are, if they are of its layout. The others are filled from the plan.
const STATE: [&str; 6] = [map::CONNTRACK, map::FRAGMENTS, map::DROP_SEEN, map::METRICS, map::EVENTS, map::EVENTS_LOST];

/// Tables as they were found.
#[derive(Debug)]
pub(super) struct Inventory {
    folder: PathBuf,
    shapes: BTreeMap<&'static str, Shape>,
    /// Layout version, zero where nobody wrote to the tables yet.
    version: u32,
    /// Revision of the policy in them.
    pub(super) revision: u32,
    /// What lies where in them; `None` where the version that made them did not tell.
    fields: Option<Vec<Field>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) id: u32,
    pub(super) sizes: Sizes,
    pub(super) entries: u32,
}

impl Inventory {
    /// Looks into a folder. `None` where there are no tables.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        if fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none()) {
            return Ok(None);
        }
        let mut shapes = BTreeMap::new();
        for name in map::ALL {
            let path = folder.join(name);
            if path.exists() {
                let info = MapInfo::from_pin(&path).map_err(|error| Error::map(name, "open", error))?;
                let sizes = Sizes { key: info.key_size() as usize, value: info.value_size() as usize };
                shapes.insert(name, Shape { id: info.id(), sizes, entries: info.max_entries() });
            }
        }
        let header = all(folder, map::CONFIG)?.into_iter().next().unwrap_or_default();
        let word = |at: usize| header.get(at..at + 4).and_then(|bytes| u32::read_from_bytes(bytes).ok()).unwrap_or(0);
        let (version, revision) = (word(0), word(4));
        let pinned: Vec<Field> =
            all(folder, LAYOUT)?.iter().filter_map(|bytes| Field::read_from_bytes(bytes).ok()).collect();
        let fields = match (pinned.is_empty(), version) {
            (false, _) => Some(pinned),
            (true, 1) => Some(layout::version_1().collect()),
            (true, _) => None,
        };
        Ok(Some(Self { folder: folder.to_owned(), shapes, version, revision, fields }))
    }

    /// Whether this version's programs can use these tables as they are.
    pub(super) fn is_current(&self) -> bool {
        let told = self.version == ABI_VERSION && map::ALL.iter().all(|name| self.is_described_alike(name));
        map::ALL.iter().all(|name| !self.shapes.contains_key(name) || self.fits(name)) && (self.version == 0 || told)
    }

    /// The tables that programs of this version may share with those that use this set.
    pub(super) fn shared(&self) -> impl Iterator<Item = &'static str> {
        STATE.into_iter().filter(|name| self.fits(name) && self.is_described_alike(name))
    }

    pub(super) fn shape(&self, name: &str) -> Option<Shape> {
        self.shapes.get(name).copied()
    }

    pub(super) fn fields(&self) -> Option<&[Field]> {
        self.fields.as_deref()
    }

    /// One of the tables.
    pub(super) fn open(&self, name: &'static str) -> Result<MapData, Error> {
        MapData::from_pin(self.folder.join(name)).map_err(|error| Error::map(name, "open", error))
    }

    /// The event ring and how to read its records, where they are of another layout.
    pub(super) fn foreign_events(&self) -> Result<Option<(MapData, Conversion)>, Error> {
        let (table, part) = (4, layout::VALUE);
        let Some(fields) = self.fields().filter(|_| !self.is_described_alike(map::EVENTS)) else { return Ok(None) };
        let own: Vec<Field> = layout::current().collect();
        self.open(map::EVENTS).map(|ring| Some((ring, Conversion::new(fields, &own, table, part))))
    }

    fn fits(&self, name: &str) -> bool {
        let least = match name {
            map::METRICS => MetricKey::COUNT,
            map::EVENTS_LOST => EventKind::COUNT,
            _ => 0,
        };
        let expected = maps::sizes().into_iter().find(|(known, ..)| *known == name);
        self.shapes.get(name).zip(expected).is_some_and(|(found, (_, key, value))| {
            (found.sizes.key, found.sizes.value) == (key, value) && found.entries >= least
        })
    }

    /// Whether this version has the same fields at the same places, where it tells of that table at all.
    fn is_described_alike(&self, name: &str) -> bool {
        let Some((table, _)) = layout::TABLES.into_iter().find(|(_, known)| *known == name) else {
            return self.fields.is_some();
        };
        let of = |fields: &mut dyn Iterator<Item = Field>| -> Vec<Field> {
            let mut fields: Vec<Field> = fields.filter(|field| field.table == table && field.number != 0).collect();
            fields.sort_unstable();
            fields
        };
        self.fields.as_ref().is_some_and(|found| of(&mut found.iter().copied()) == of(&mut layout::current()))
    }
}

/// Pins the description of this version's layout, unless there is one.
pub(super) fn describe(folder: &Path) -> Result<(), Error> {
    let path = folder.join(LAYOUT);
    if path.exists() {
        return Ok(());
    }
    let fields: Vec<Field> = layout::current().collect();
    let refuse = |error: AyaError| Error::map(LAYOUT, "make it", error);
    let count = u32::try_from(fields.len()).unwrap_or(u32::MAX);
    let mut array: Array<MapData, [u8; size_of::<Field>()]> = Array::create(count, 0).map_err(refuse)?;
    for (index, field) in (0..).zip(&fields) {
        let mut bytes = [0; size_of::<Field>()];
        bytes.copy_from_slice(field.as_bytes());
        array.set(index, bytes, 0).map_err(refuse)?;
    }
    array.pin(&path).map_err(|error| Error::io(LAYOUT, "pin it", std::io::Error::other(error)))
}

/// The values of a pinned array; none where there is no such pin.
fn all(folder: &Path, name: &'static str) -> Result<Vec<Vec<u8>>, Error> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let data = MapData::from_pin(&path).map_err(|error| Error::map(name, "open", error))?;
    let info = data.info().map_err(|error| Error::map(name, "open", error))?;
    let sizes = Sizes { key: info.key_size() as usize, value: info.value_size() as usize };
    let mut values = Vec::new();
    raw::each(data.fd().as_fd(), sizes, |_, value| values.push(value.to_vec()))
        .map_err(|source| Error::io(name, "read", source))?;
    Ok(values)
}
