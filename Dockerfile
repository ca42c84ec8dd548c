# The operator's image.
#
#   docker build .                        compiles, then makes the image
#   docker build --target prebuilt DIR    makes it of DIR/prowler-operator (hack/images, releases)
#
# The base needs glibc, libgcc and CA certificates, nothing else.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm

# What both images are made of.
FROM ${RUNTIME_IMAGE} AS runtime
# Of memory that is free again glibc keeps some for each of eight arenas a core, which threads take as
# they come: what a busy server holds would grow with the number of its threads, not with its work.
ENV MALLOC_ARENA_MAX=2
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/prowler-operator"]

# Before the one that compiles, because builders that know no better run all stages above the target.
FROM runtime AS prebuilt
COPY --chown=0:0 --chmod=0755 prowler-operator /usr/local/bin/prowler-operator

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# Shown as a label of prowler_operator_build_info.
ARG COMMIT=unknown
# SQLX_OFFLINE: queries are checked against the committed data, there is no database here.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    SQLX_OFFLINE=true PROWLER_OPERATOR_COMMIT=$COMMIT cargo build --locked --release --bin prowler-operator && \
    cp target/release/prowler-operator /prowler-operator

FROM runtime
COPY --from=build /prowler-operator /usr/local/bin/prowler-operator
