import { createRoot } from 'react-dom/client';
import { createTheme, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelChrome } from '@grafana/ui';
import { drawing } from './drawing';

/** Grafana's grid of panels; the image is 1640 pixels wide. */
const GRID = { columns: 24, rowHeight: 38, gap: 8, width: 1600 };

export interface Series {
  name: string;
  times: number[];
  values: (number | null)[];
}
export interface Panel {
  title: string;
  type: string;
  gridPos: { x: number; y: number; w: number; h: number };
  options: Record<string, any>;
  fieldConfig: { defaults: Record<string, any> };
  series: Series[];
}
/** A dashboard with its data; times are in seconds since 1970. */
export interface Board {
  title: string;
  from: number;
  to: number;
  panels: Panel[];
}

/** Set by board.js, which `python -m ops draw` writes. */
declare const board: Board;

const theme = createTheme({ colors: { mode: 'light' } });

function Placed({ panel }: { panel: Panel }) {
  const { x, y, w, h } = panel.gridPos;
  const cell = GRID.width / GRID.columns;
  const width = w * cell - GRID.gap;
  const height = h * GRID.rowHeight - GRID.gap;
  const place = { position: 'absolute' as const, left: x * cell, top: y * GRID.rowHeight, width, height };
  if (panel.type === 'row') {
    return <h4 style={{ ...place, height: 'auto', paddingTop: 6 }}>{panel.title}</h4>;
  }
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={width} height={height} padding="md">
        {(innerWidth, innerHeight) => drawing(panel, board, theme, innerWidth, innerHeight)}
      </PanelChrome>
    </div>
  );
}

const last = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
createRoot(document.getElementById('page')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ padding: 12, background: theme.colors.background.canvas }}>
      <h2>{board.title}</h2>
      <div style={{ position: 'relative', width: GRID.width, height: last * GRID.rowHeight }}>
        {board.panels.map((panel, number) => (
          <Placed key={number} panel={panel} />
        ))}
      </div>
    </div>
  </ThemeContext.Provider>
);
