import { render } from 'preact';
import { App } from './app.js';
import { listenToKeys } from './keyboard.js';

listenToKeys();
render(<App />, document.getElementById('app') as HTMLElement);
