# syntax=docker/dockerfile:1
# The relay alone, on nothing: one static binary, the CA roots, user 65532.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ARG VERSION=dev
ARG REVISION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -pgo=bench/default.pgo -buildvcs=false -ldflags "-s -w -X main.version=$VERSION -X main.revision=$REVISION" -o /out/relay .
RUN --mount=type=cache,target=/go/pkg/mod \
    GOOS=$TARGETOS GOARCH=$TARGETARCH sh configs/package/licences.sh > /out/THIRD-PARTY-LICENCES && mkdir -m 700 /out/state

FROM scratch
LABEL org.opencontainers.image.title="Stream Relay" \
      org.opencontainers.image.description="A streaming edge proxy for LLM APIs"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/relay /usr/bin/relay
COPY --from=build /out/THIRD-PARTY-LICENCES /usr/share/doc/relay/THIRD-PARTY-LICENCES
# A new volume here takes over this owner.
COPY --from=build --chown=65532:65532 /out/state /var/lib/relay
USER 65532:65532
WORKDIR /var/lib/relay
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/bin/relay", "healthcheck", "--address", "127.0.0.1:8080"]
ENTRYPOINT ["/usr/bin/relay"]
CMD ["serve", "--config", "/etc/relay/relay.yaml"]
