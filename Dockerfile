# One image for every role: `serve --role all|api|worker`, and the command line client.
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY scripts/build-web.mjs scripts/setup.mjs ./scripts/
RUN npm run build && npm prune --omit=dev

FROM node:24-bookworm-slim
# Only for the embedded default; with a Redis URL configured it is never started.
RUN apt-get update \
 && apt-get install -y --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o node -g node -m 0700 /var/lib/writeback /var/lib/writeback-tokens
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
ENV NODE_ENV=production \
    WRITEBACK_HTTP_HOST=0.0.0.0 \
    WRITEBACK_HTTP_PORT=8080 \
    WRITEBACK_DATA_DIR=/var/lib/writeback \
    WRITEBACK_HEALTH_SOCKET=/tmp/writeback-health.sock \
    WRITEBACK_WORKER_METRICS_HOST=0.0.0.0 \
    WRITEBACK_WORKER_METRICS_PORT=9464
USER node
VOLUME /var/lib/writeback
# The API; /metrics and /healthz of a process with --role worker.
EXPOSE 8080 9464
# In every role, and whatever the API asks of those who connect: TLS, client certificates, credentials.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s \
  CMD ["node", "/app/dist/main.js", "health"]
ENTRYPOINT ["node", "/app/dist/main.js"]
CMD ["serve"]
