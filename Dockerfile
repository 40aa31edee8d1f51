# Arguments, so that a mirror's images or self-made ones will do: deploy/image-check.sh builds without a registry.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

# What the dependencies are built from: manifests, and a stub for each crate root. Its content, and so the cache of
# the next stage, changes with a manifest or with the set of crate roots, not with the code.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY crates crates
RUN find crates -regextype posix-extended -type f ! -regex \
        'crates/[^/]+/(Cargo\.toml|build\.rs|src/(lib|main)\.rs|(src/bin|tests|benches|examples)/.+\.rs)' -delete \
    && find crates -type d -empty -delete \
    && find crates -name '*.rs' -exec sh -c \
        'for root; do echo "#![allow(dead_code, missing_docs)] fn main() { }" >"$root"; done' stubs {} + \
    # Builders that count time stamps as content must find the same ones each time.
    && find . -exec touch -d @0 {} +

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY --from=manifests /src ./
RUN cargo build --release --locked -p allocation
COPY crates crates
# Cargo goes by time stamps: sources older than the build of their stubs would count as built.
RUN find crates -exec touch {} + \
    && cargo build --release --locked -p allocation

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="allocation" \
      org.opencontainers.image.description="Decides which stock fulfils which order" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --no-log-init --no-create-home --home-dir /data --shell /usr/sbin/nologin allocation \
    && install -d -o allocation -g allocation /data
COPY --from=build /src/target/release/allocation /usr/local/bin/allocation
# No DATABASE_URL, which would outrank DB_HOST: the default is a SQLite file in the working directory.
# Others reach that address, so requests need an API key: `docker exec CONTAINER allocation keys create …` makes one. ACCESS=open asks for none.
ENV LISTEN=0.0.0.0:5005 ACCESS=keys
# By number, so that an orchestrator can see that it isn't root.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 5005
# The program gives up after 5 seconds itself, and then says why.
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s --retries=3 CMD ["/usr/local/bin/allocation", "health"]
ENTRYPOINT ["/usr/local/bin/allocation"]
CMD ["serve"]
