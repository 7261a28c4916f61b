//! The filter flags of `hubble observe`, in the order they are given: `--not` belongs to the flag behind it.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use strait_flow::{Filter, FilterBuilder};

/// What the filter flags ask for, or what is wrong with them.
#[derive(Debug)]
pub(crate) struct FilterArgs {
    pub(crate) filter: Result<Filter, String>,
}

const NOT: &str = "not";

/// Short flag, value name and help of a filter, by its name without `from-` and `to-`.
fn describe(what: &str) -> (Option<char>, &'static str, &'static str) {
    match what {
        "pod" => (None, "[NS/]PREFIX", "pods whose names start with PREFIX"),
        "namespace" => (Some('n'), "NS", "pods of a namespace"),
        "label" => (Some('l'), "SELECTOR", "labels, as app=web,tier in (a,b),!old or reserved:world"),
        "ip" => (None, "IP|CIDR", "an address or a prefix"),
        "port" => (None, "PORT", "a port"),
        "identity" => (None, "ID", "a security identity, by number or reserved name"),
        "workload" => (None, "[KIND/]NAME", "pods of a workload"),
        "verdict" => (None, "VERDICT", "FORWARDED, DROPPED, AUDIT, REDIRECTED, ERROR, TRACED or TRANSLATED"),
        "drop-reason-desc" => (None, "REASON", "a drop reason, as POLICY_DENIED"),
        "type" => (Some('t'), "TYPE[:SUB]", "a kind of event: drop, policy-verdict, trace, trace:to-endpoint …"),
        "protocol" => (None, "PROTOCOL", "tcp, udp, sctp, icmp, icmpv4, icmpv6, http or dns"),
        "traffic-direction" => (None, "DIRECTION", "ingress or egress"),
        "ip-version" => (None, "4|6", "an address family"),
        "tcp-flags" => (None, "FLAG,…", "all of these TCP flags, as SYN,ACK"),
        "node-name" => (None, "NODE", "flows that this node reports; * stands for anything"),
        _ => (None, "STATUS", "an HTTP status (matches flows of layer 7 only)"),
    }
}

fn argument(flag: &'static str) -> Arg {
    let (what, side) = match (flag.strip_prefix("from-"), flag.strip_prefix("to-")) {
        (Some(what), _) => (what, "From: "),
        (_, Some(what)) => (what, "To: "),
        _ => (flag, ""),
    };
    let (short, value, help) = describe(what);
    let mut arg = Arg::new(flag)
        .long(flag)
        .action(ArgAction::Append)
        .value_name(value)
        .help_heading("Filters")
        .help(if side.is_empty() { format!("Only {help}") } else { format!("{side}{help}") });
    if side.is_empty()
        && let Some(short) = short
    {
        arg = arg.short(short);
    }
    arg
}

impl Args for FilterArgs {
    fn augment_args(command: Command) -> Command {
        let not = Arg::new(NOT)
            .long(NOT)
            .action(ArgAction::Append)
            .num_args(0)
            .default_missing_value("true")
            .help_heading("Filters")
            .help("Take away what the next filter matches");
        command.args(Filter::FLAGS.iter().map(|flag| argument(flag))).arg(not)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given: Vec<(usize, Option<(&str, &String)>)> = Vec::new();
        for flag in Filter::FLAGS {
            let indices = matches.indices_of(flag).into_iter().flatten();
            let values = matches.get_many::<String>(flag).into_iter().flatten();
            given.extend(indices.zip(values).map(|(index, value)| (index, Some((*flag, value)))));
        }
        given.extend(matches.indices_of(NOT).into_iter().flatten().map(|index| (index, None)));
        given.sort_by_key(|(index, _)| *index);

        Ok(Self { filter: build(&given) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `None` is `--not`.
fn build(given: &[(usize, Option<(&str, &String)>)]) -> Result<Filter, String> {
    let mut builder = FilterBuilder::default();
    let mut not = false;
    for (_, entry) in given {
        match entry {
            None if not => return Err("--not twice in a row".to_owned()),
            None => not = true,
            Some((flag, value)) => {
                builder.add(flag, value, std::mem::take(&mut not)).map_err(|error| error.to_string())?;
            }
        }
    }
    if not { Err("--not needs a filter behind it".to_owned()) } else { Ok(builder.build()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Filter, String> {
        let command = FilterArgs::augment_args(Command::new("flows").no_binary_name(true));
        command
            .try_get_matches_from(line.split_whitespace())
            .and_then(|matches| FilterArgs::from_arg_matches(&matches))
            .map_err(|error| error.to_string())?
            .filter
    }

    #[test]
    fn not_belongs_to_the_flag_behind_it() {
        let built = |flags: &[(&str, &str, bool)]| {
            let mut builder = FilterBuilder::default();
            for (flag, value, not) in flags {
                builder.add(flag, value, *not).unwrap();
            }
            builder.build()
        };
        assert_eq!(
            parse("--verdict DROPPED --not --port 53 -n shop --not --from-pod a/b").unwrap(),
            built(&[
                ("verdict", "DROPPED", false),
                ("port", "53", true),
                ("namespace", "shop", false),
                ("from-pod", "a/b", true),
            ])
        );
        assert_eq!(parse("").unwrap(), Filter::default());
        for line in ["--not", "--not --not --port 1", "--port x", "--port 1 --not"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
