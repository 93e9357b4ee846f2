import { useState } from 'preact/hooks';
import type { Node } from '../../model/node.js';
import { bytesText, countText, filesText } from '../../model/text.js';
import { listNodes, pauseNode, resumeNode } from '../api.js';
import { type Live, usePolled } from '../live.js';
import { Ago, Badge, Callout, Pager, Unknown } from '../parts/basics.js';
import { PauseAction } from '../parts/pause-action.js';
import { href } from '../route.js';

const ASK_MS = 3000;
/** They come all at once; so many of them are drawn. */
const PAGE = 50;

/** The nodes whose agents copy: whether one is there, what waits, pause. */
export function NodesPage() {
  const nodes = usePolled('nodes', ASK_MS, listNodes);
  const [page, setPage] = useState(0);
  const all = nodes.data ?? [];
  const shown = all.slice(page * PAGE, (page + 1) * PAGE);
  return (
    <main id="main">
      <h1 tabIndex={-1}>Nodes</h1>
      {nodes.refusal && <Callout tone="bad">{nodes.refusal.message}</Callout>}
      {nodes.data === undefined && !nodes.refusal && <p class="empty">Reading the nodes …</p>}
      {nodes.data?.length === 0 && (
        <p class="empty">
          No node has an agent, and no transfer has named one. An agent is started by{' '}
          <code>writeback serve --role agent</code>.
        </p>
      )}
      {shown.length > 0 && <NodeTable nodes={shown} live={nodes} />}
      <Pager
        label="Pages of nodes"
        withKeys
        page={page}
        hasNext={all.length > (page + 1) * PAGE}
        onPrevious={() => setPage(page - 1)}
        onNext={() => setPage(page + 1)}
      />
    </main>
  );
}

function NodeTable({ nodes, live }: { nodes: Node[]; live: Live<Node[]> }) {
  return (
    <table class="cards">
      <thead>
        <tr>
          <th>Agent</th>
          <th>Node</th>
          <th>Waiting</th>
          <th>In hand</th>
          <th>Open jobs</th>
          <th>Heard of</th>
          <th>
            <span class="hidden-text">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {nodes.map((node) => (
          <NodeRow key={node.name} node={node} live={live} />
        ))}
      </tbody>
    </table>
  );
}

function NodeRow({ node, live }: { node: Node; live: Live<Node[]> }) {
  const put = (changed: Node): void =>
    live.update((all) => all.map((one) => (one.name === changed.name ? changed : one)));
  return (
    <tr>
      <td>
        <span class="badges">
          <Badge word={node.connected ? 'up' : 'down'}>{node.connected ? 'there' : 'not there'}</Badge>
          {node.paused && <Badge word="paused" />}
        </span>
      </td>
      <td class="name">
        <strong>{node.name}</strong>
        {node.paused && <span class="below">{node.pausedReason ?? 'No reason was given.'}</span>}
      </td>
      <td data-label="Waiting">
        {filesText(node.filesQueued)}
        {node.bytesQueued > 0 && <span class="soft"> · {bytesText(node.bytesQueued)}</span>}
      </td>
      <td data-label="In hand">{filesText(node.filesActive)}</td>
      <td data-label="Open jobs">
        <a data-row href={href(['jobs'], { node: node.name, state: 'open' })}>
          {countText(node.jobsActive)}
        </a>
      </td>
      <td data-label="Heard of">
        {node.seenAt === null ? <Unknown title="Never" /> : <Ago time={node.seenAt} />}
      </td>
      <td>
        <PauseAction
          what={node}
          kind="node"
          sentence="Its agent stops copying within seconds, also in mid-file; what is durable stays, and the copies go on from there. Jobs are still accepted and wait. Their deadlines go on."
          pause={async (reason) => put(await pauseNode(node.name, reason))}
          resume={async () => put(await resumeNode(node.name))}
        />
      </td>
    </tr>
  );
}
