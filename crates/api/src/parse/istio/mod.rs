//! Objects of `networking.istio.io`, checked as istiod's admission checks them (`pkg/config/validation`).

mod destination_rule;
mod gateway;
mod http;
mod proxy_config;
mod service_entry;
mod traffic;
mod values;
mod virtual_service;

pub use self::proxy_config::{mesh_proxy_config, proxy_config};
pub(super) use self::{
    destination_rule::destination_rule,
    gateway::gateway,
    service_entry::{service_entry, workload_entry},
    virtual_service::virtual_service,
};
