//! Tables by host name: the most specific one counts.

use std::sync::Arc;

use crate::table::{Table, sorted};

/// Values by host name. A name is exact, a wildcard (`*.example.com`: any number of labels before the dot) or nothing, which is all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostTable<T> {
    exact: Table<T>,
    /// By what follows the `*`: `.example.com`.
    wildcards: Table<T>,
    any: Option<T>,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { exact: Table::default(), wildcards: Table::default(), any: None }
    }
}

impl<T> HostTable<T> {
    /// The value of the most specific name that covers `host`, which is in small letters and without a port: the exact one, else the
    /// longest wildcard, else what is for all.
    pub fn find(&self, host: &str) -> Option<&T> {
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        if !self.wildcards.is_empty() {
            let dots = host.match_indices('.').filter(|(at, _)| *at > 0);
            for (at, _) in dots {
                if let Some(value) = self.wildcards.get(&host[at..]) {
                    return Some(value);
                }
            }
        }
        self.any.as_ref()
    }

    /// The value of exactly that name.
    pub fn get(&self, name: Option<&str>) -> Option<&T> {
        match name {
            None => self.any.as_ref(),
            Some(name) => match name.strip_prefix('*') {
                Some(suffix) => self.wildcards.get(suffix),
                None => self.exact.get(name),
            },
        }
    }

    /// All values with their names, exact ones first and each kind in order, what is for all last.
    pub fn iter(&self) -> impl Iterator<Item = (String, &T)> {
        let exact = sorted(&self.exact).map(|(name, value)| (name.to_string(), value));
        let wildcards = sorted(&self.wildcards).map(|(suffix, value)| (format!("*{suffix}"), value));
        exact.chain(wildcards).chain(self.any.iter().map(|value| ("*".to_owned(), value)))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.any.is_none()
    }
}

impl<T: Clone> HostTable<T> {
    /// The value of exactly that name, made where there is none; a value of all hosts for none.
    pub fn entry(&mut self, name: Option<&Arc<str>>, make: impl FnOnce() -> T) -> &mut T {
        match name {
            None => self.any.get_or_insert_with(make),
            Some(name) => match name.strip_prefix('*') {
                Some(suffix) => self.wildcards.or_insert_with(&suffix.into(), make),
                None => self.exact.or_insert_with(name, make),
            },
        }
    }

    /// The value of exactly that name, to be changed.
    pub(crate) fn get_mut(&mut self, name: Option<&str>) -> Option<&mut T> {
        match name {
            None => self.any.as_mut(),
            Some(name) => match name.strip_prefix('*') {
                Some(suffix) => self.wildcards.get_mut(suffix),
                None => self.exact.get_mut(name),
            },
        }
    }

    /// Takes the value of exactly that name out.
    pub(crate) fn remove(&mut self, name: Option<&str>) {
        match name {
            None => self.any = None,
            Some(name) => match name.strip_prefix('*') {
                Some(suffix) => self.wildcards.remove(suffix),
                None => self.exact.remove(name),
            },
        }
    }
}

/// Whether a wildcard covers all that a name does.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    wide.strip_prefix('*').is_some_and(|suffix| {
        let rest = narrow.strip_prefix('*').unwrap_or(narrow);
        rest.ends_with(suffix) && (narrow.starts_with('*') || rest.len() > suffix.len())
    })
}

/// What both names cover, as the specification intersects a listener's with a route's: the more specific of the two where one covers the
/// other. None of two is all hosts.
pub fn intersection(listener: Option<&Arc<str>>, route: Option<&Arc<str>>) -> Option<Option<Arc<str>>> {
    match (listener, route) {
        (None, name) | (name, None) => Some(name.cloned()),
        (Some(listener), Some(route)) => {
            if listener == route || covers(listener, route) {
                Some(Some(Arc::clone(route)))
            } else if covers(route, listener) {
                Some(Some(Arc::clone(listener)))
            } else {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_specific() {
        let mut table = HostTable::default();
        for name in ["a.example.com", "*.example.com", "*.b.example.com", "*.com"] {
            table.entry(Some(&name.into()), || name);
        }
        let cases = [
            ("a.example.com", Some("a.example.com")),
            ("x.example.com", Some("*.example.com")),
            ("x.y.example.com", Some("*.example.com")),
            ("x.b.example.com", Some("*.b.example.com")),
            ("b.example.com", Some("*.example.com")),
            ("example.com", Some("*.com")),
            ("com", None),
            (".com", None),
            ("", None),
            ("example.org", None),
        ];
        for (host, expected) in cases {
            assert_eq!(table.find(host).copied(), expected, "{host}");
        }
        table.entry(None, || "all");
        assert_eq!(table.find("example.org"), Some(&"all"));
    }

    #[test]
    fn intersections() {
        let cases = [
            (None, None, Some("all")),
            (Some("a.b"), None, Some("a.b")),
            (None, Some("*.b"), Some("*.b")),
            (Some("a.b"), Some("a.b"), Some("a.b")),
            (Some("a.b"), Some("c.b"), None),
            (Some("*.b"), Some("a.b"), Some("a.b")),
            (Some("*.b"), Some("x.a.b"), Some("x.a.b")),
            (Some("*.b"), Some("b"), None),
            (Some("a.b"), Some("*.b"), Some("a.b")),
            (Some("*.a.b"), Some("*.b"), Some("*.a.b")),
            (Some("*.b"), Some("*.a.b"), Some("*.a.b")),
            (Some("*.b"), Some("*.b"), Some("*.b")),
            (Some("*.ab"), Some("*.b"), None),
            (Some("*.b"), Some("ab"), None),
        ];
        for (listener, route, expected) in cases {
            let (a, b) = (listener.map(Arc::from), route.map(Arc::from));
            let found =
                intersection(a.as_ref(), b.as_ref()).map(|name| name.map_or("all".into(), |name| name.to_string()));
            assert_eq!(found.as_deref(), expected, "{listener:?} {route:?}");
        }
    }
}
