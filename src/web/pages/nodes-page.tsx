import type { Node } from '../../model/node.js';
import { bytesText, countText, filesText } from '../../model/text.js';
import { listNodes, type Page, pauseNode, resumeNode } from '../api.js';
import { type Live, usePolled } from '../live.js';
import { Ago, Badge, Callout, Unknown } from '../parts/basics.js';
import { Pager, usePages } from '../parts/pager.js';
import { PauseAction } from '../parts/pause-action.js';
import { href } from '../route.js';
import { may } from '../session.js';

const ASK_MS = 3000;
const PAGE = 50;

/** The nodes whose agents copy: whether one is there, what waits, pause. */
export function NodesPage() {
  const pages = usePages();
  const nodes = usePolled(`${pages.cursor}`, ASK_MS, (signal) => listNodes(pages.cursor, PAGE, signal));
  return (
    <main id="main">
      <h1 tabIndex={-1}>Nodes</h1>
      {nodes.refusal && <Callout tone="bad">{nodes.refusal.message}</Callout>}
      {nodes.data === undefined && !nodes.refusal && <p class="empty">Reading the nodes …</p>}
      {nodes.data?.items.length === 0 && pages.at === 0 && (
        <p class="empty">
          {may('operate') ? (
            <>
              No node has an agent, and no transfer has named one. An agent is started by{' '}
              <code>writeback serve --role agent</code>.
            </>
          ) : (
            'No node is known whose files you may transfer.'
          )}
        </p>
      )}
      {nodes.data && (
        <div aria-busy={nodes.stale}>
          {nodes.data.items.length > 0 && <NodeTable nodes={nodes.data.items} live={nodes} />}
          <Pager
            label="Pages of nodes"
            pages={pages}
            nextCursor={nodes.stale ? null : nodes.data.nextCursor}
          />
        </div>
      )}
    </main>
  );
}

function NodeTable({ nodes, live }: { nodes: Node[]; live: Live<Page<Node>> }) {
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

function NodeRow({ node, live }: { node: Node; live: Live<Page<Node>> }) {
  const put = (changed: Node): void =>
    live.update((page) => ({
      ...page,
      items: page.items.map((one) => (one.name === changed.name ? changed : one)),
    }));
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
        <div class="actions">
          <PauseAction
            what={node}
            kind="node"
            sentence="Its agent stops copying within seconds, also in mid-file; what is durable stays, and the copies go on from there. Jobs are still accepted and wait. Their deadlines go on."
            pause={async (reason) => put(await pauseNode(node.name, reason))}
            resume={async () => put(await resumeNode(node.name))}
          />
        </div>
      </td>
    </tr>
  );
}
