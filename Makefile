# A thin front for people. Each target brings what a Debian 12 machine is missing, says so, and hands over to
# `cargo xtask`, where everything is written down in Rust.

export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help demo test bench check

help:
	@echo 'make demo    build, start a sample cluster in network namespaces, compare policy with real packets (root)'
	@echo 'make test    everything CI runs (root)'
	@echo 'make bench   the datapath against plain routing, the gate against other gates (root)'
	@echo 'make check   what can be checked without root: formatting, lints, documentation'

demo:
	@scripts/bootstrap
	@cargo xtask setup demo
	@cargo xtask demo

test:
	@scripts/bootstrap
	@cargo xtask setup test
	@cargo xtask ci

bench:
	@scripts/bootstrap
	@cargo xtask setup bench
	@cargo xtask bench datapath
	@cargo xtask bench gateway

check:
	@scripts/bootstrap
	@cargo xtask check
