//! The interfaces of Spin that this host offers to guests and calls in them.
//!
//! Written down here as far as they are offered, in Spin's own packages and versions, so that a
//! component built with `spin-sdk` finds them by name.

#![allow(missing_docs)]

mod platform {
    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin@2.0.0;

            interface sqlite {
                resource connection {
                    open: static func(database: string) -> result<connection, error>;
                    execute: func(statement: string, parameters: list<value>) -> result<query-result, error>;
                }
                variant error { no-such-database, access-denied, invalid-connection, database-full, io(string) }
                record query-result { columns: list<string>, rows: list<row-result> }
                record row-result { values: list<value> }
                variant value { integer(s64), real(f64), text(string), blob(list<u8>), null }
            }

            interface key-value {
                resource store {
                    open: static func(label: string) -> result<store, error>;
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                    exists: func(key: string) -> result<bool, error>;
                    get-keys: func() -> result<list<string>, error>;
                }
                variant error { store-table-full, no-such-store, access-denied, other(string) }
            }

            interface variables {
                get: func(name: string) -> result<string, error>;
                variant error { invalid-name(string), undefined(string), provider(string), other(string) }
            }

            interface redis {
                variant error { invalid-address, too-many-connections, type-error, other(string) }
                resource connection {
                    open: static func(address: string) -> result<connection, error>;
                    publish: func(channel: string, payload: payload) -> result<_, error>;
                    get: func(key: string) -> result<option<payload>, error>;
                    set: func(key: string, value: payload) -> result<_, error>;
                    incr: func(key: string) -> result<s64, error>;
                    del: func(keys: list<string>) -> result<u32, error>;
                    sadd: func(key: string, values: list<string>) -> result<u32, error>;
                    smembers: func(key: string) -> result<list<string>, error>;
                    srem: func(key: string, values: list<string>) -> result<u32, error>;
                    execute: func(command: string, arguments: list<redis-parameter>) -> result<list<redis-result>, error>;
                }
                type payload = list<u8>;
                variant redis-parameter { int64(s64), binary(payload) }
                variant redis-result { nil, status(string), int64(s64), binary(payload) }
            }

            world platform {
                import sqlite;
                import key-value;
                import variables;
                import redis;
            }
        "#,
        imports: { default: async },
        require_store_data_send: true,
        with: {
            "fermyon:spin/sqlite.connection": crate::sqlite::Connection,
            "fermyon:spin/key-value.store": crate::key_value::Store,
            "fermyon:spin/redis.connection": crate::redis::Connection,
        },
    });
}

mod inbound_redis {
    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin;

            interface redis-types {
                enum error { success, error }
                type payload = list<u8>;
            }

            interface inbound-redis {
                use redis-types.{payload, error};
                handle-message: func(message: payload) -> result<_, error>;
            }

            world redis-trigger { export inbound-redis; }
        "#,
        exports: { default: async },
        require_store_data_send: true,
    });
}

mod inbound_cron {
    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin-cron@2.0.0;

            interface cron-types {
                record metadata { timestamp: u64 }
                variant error { other(string) }
            }

            world spin-cron {
                use cron-types.{error, metadata};
                export handle-cron-event: func(metadata: metadata) -> result<_, error>;
            }
        "#,
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub use inbound_cron::{Metadata as CronMetadata, SpinCronPre};
pub use inbound_redis::RedisTriggerPre;
pub use platform::fermyon::spin::{key_value, redis, sqlite, variables};
